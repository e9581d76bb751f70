"""What a language model's logits say about the tokens that it should have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED = -100


def token_scores(
    logits_BTV: torch.Tensor, target_BT: torch.Tensor | None
) -> Sequence[NDArray[np.float32]]:
    """Return (3,) for each row: negative log-likelihood of its targets in nats, right ones, and all."""
    if target_BT is None:
        message = "scores of tokens need targets"
        raise AssertionError(message)
    counts_BT = target_BT != IGNORED
    nll_BT = F.cross_entropy(
        logits_BTV.float().transpose(1, 2), target_BT, ignore_index=IGNORED, reduction="none"
    )
    right_BT = (logits_BTV.argmax(-1) == target_BT) & counts_BT
    figures_B3 = torch.stack([nll_BT.sum(1), right_BT.sum(1).float(), counts_BT.sum(1).float()], 1)
    return list(figures_B3.cpu().numpy())


def sequence_log_probabilities(logits: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
    """Return the log-probability, in nats, of the targets of each sequence; (..., T, V) to (...)."""
    if target is None:
        message = "log-probabilities need targets"
        raise AssertionError(message)
    flat = F.cross_entropy(
        logits.float().flatten(0, -2), target.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return -flat.view(target.shape).sum(-1)

"""The torch half: transformers' token-classification models, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForTokenClassification

from app.adapt.network import TransformerNetwork
from app.adapt.tasks.token_classification.data import IGNORED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.adapt.outputs import Batch, Encoded, Outputs
    from app.adapt.tasks.token_classification.config import TokenClassification


class TaggingNetwork(TransformerNetwork):
    """Logits (B, T, C) of an encoder."""

    model_class = AutoModelForTokenClassification

    def configure(self, task: TokenClassification, config: Any) -> None:
        """Set the head's width and the labels' names."""
        labels = task.labels
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}

    def target(
        self, task: TokenClassification, encoded: Sequence[Encoded], shape: tuple[int, int]
    ) -> torch.Tensor:
        """Return label indices (B, T), -100 where no answer is asked for."""
        del task
        target_BT = torch.full(shape, IGNORED, dtype=torch.long)
        for row, item in enumerate(encoded):
            target_BT[row, : len(item.target)] = torch.tensor(item.target, dtype=torch.long)
        return target_BT

    def scores(
        self, task: TokenClassification, outputs: Outputs, batch: Batch
    ) -> Sequence[NDArray[np.float32]]:
        """Return logits (T, C) of each row without its padding."""
        del task
        logits_BTC = outputs.logits.float().cpu().numpy()
        lengths = batch.mask_BT.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(logits_BTC, lengths, strict=True)]

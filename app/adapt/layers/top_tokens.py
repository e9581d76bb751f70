"""A teacher's shares of a vocabulary, cut to the likeliest tokens; all that is left is one more share.

A row of K + 1 log-shares is a distribution itself, so a divergence of two such rows is one, and never more
than that of the whole rows (the data-processing inequality). At a temperature it is these K + 1 shares that
become softer. Legend: B rows, T tokens, V vocabulary, K likeliest tokens, N tokens that count, M teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from app.adapt.layers.language import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Shares = NDArray[np.float32]

REST = -1  # the id of what is left; whole numbers up to 2^24 are exact in these arrays


def likeliest(logits_BTV: Tensor, target_BT: Tensor, count: int) -> list[Shares]:
    """Return (N, 2, K + 1) for each row: log-shares of tokens and their ids, the likeliest first.

    N are the tokens that have a target, and K is `count`, or less where the vocabulary is.
    """
    count = min(count, logits_BTV.shape[-1] - 1)
    found: list[Shares] = []
    for logits_TV, target_T in zip(logits_BTV, target_BT, strict=True):
        log_NV = F.log_softmax(logits_TV[target_T != IGNORED].float(), dim=-1)
        ids_NK = log_NV.topk(count, dim=-1).indices
        rest_N1 = torch.full_like(ids_NK[:, :1], REST)
        pair = torch.stack([cut(log_NV, ids_NK), torch.cat([ids_NK, rest_N1], -1).float()], 1)
        found.append(pair.cpu().numpy())
    return found


def cut(log_V: Tensor, ids_K: Tensor) -> Tensor:
    """Return the log-shares (..., K + 1) of these tokens and of all others together; log_V is (..., V)."""
    others = log_V.scatter(-1, ids_K, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_V.gather(-1, ids_K), others], dim=-1)


def laid_out(rows: Sequence[Shares], target_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `likeliest` found: log-shares (B, T, K + 1) and ids (B, T, K), 0 where nothing counts."""
    places_BT = target_BT != IGNORED
    flat = torch.from_numpy(np.concatenate(rows)).to(target_BT.device)
    log_BTK = flat.new_zeros(*target_BT.shape, flat.shape[-1])
    log_BTK[places_BT] = flat[:, 0]
    ids_BTK = torch.zeros(
        *target_BT.shape, flat.shape[-1] - 1, dtype=torch.long, device=flat.device
    )
    ids_BTK[places_BT] = flat[:, 1, :-1].long()
    return log_BTK, ids_BTK


def mixed(rows: Sequence[Shares], weights: Sequence[float]) -> Shares:
    """Return the weighted mean of several teachers' shares of the same N tokens, again the K likeliest.

    A token that is not among a teacher's likeliest counts as 0 there, and its share as a part of the rest.
    """
    count = rows[0].shape[-1] - 1
    shares_NL = np.concatenate(
        [w * np.exp(row[:, 0, :-1]) for w, row in zip(weights, rows, strict=True)], axis=-1
    )
    ids_NL = np.concatenate([row[:, 1, :-1] for row in rows], axis=-1)
    order_NL = np.argsort(ids_NL, axis=-1, kind="stable")
    ids_NL, shares_NL = (np.take_along_axis(a, order_NL, -1) for a in (ids_NL, shares_NL))
    starts_NL = np.concatenate(
        [np.ones_like(ids_NL[:, :1], dtype=bool), ids_NL[:, 1:] != ids_NL[:, :-1]], axis=-1
    )
    sums = np.add.reduceat(shares_NL.ravel(), np.flatnonzero(starts_NL))
    shares_NL = np.zeros_like(shares_NL)
    shares_NL[starts_NL] = sums
    best_NK = np.argsort(-shares_NL, axis=-1, kind="stable")[:, :count]
    kept_NK = np.take_along_axis(shares_NL, best_NK, -1)
    rest_N1 = np.clip(1.0 - kept_NK.sum(-1, keepdims=True), 0.0, 1.0)
    log_NK = np.log(np.maximum(np.concatenate([kept_NK, rest_N1], -1), np.finfo(np.float32).tiny))
    ids_NK = np.take_along_axis(ids_NL, best_NK, -1)
    ends_N1 = np.full_like(rest_N1, REST)
    pair = np.stack([log_NK, np.concatenate([ids_NK, ends_N1], -1)], axis=1)
    return cast("Any", pair.astype(np.float32))

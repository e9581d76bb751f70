"""Figures of a language model's tokens: how surprised it is, and how often right. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.task import Metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores


class TokenMetrics(Metrics):
    """Perplexity exp(mean negative log-likelihood) and accuracy, over all target tokens."""

    def __init__(self) -> None:
        self._rows: list[Scores] = []

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take (3,) of each row: negative log-likelihood, right tokens, tokens."""
        del items
        self._rows += scores

    def compute(self) -> dict[str, float]:
        """Return perplexity and token_accuracy."""
        rows_N3 = self._figures()
        if not len(rows_N3):
            return {"perplexity": 0.0, "token_accuracy": 0.0}
        return {"perplexity": perplexity(rows_N3), "token_accuracy": accuracy(rows_N3)}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of both, rows drawn anew."""
        rows_N3 = self._figures()
        if not len(rows_N3):
            return {}
        return {
            "perplexity": bootstrap(len(rows_N3), lambda drawn: perplexity(rows_N3[drawn])),
            "token_accuracy": bootstrap(len(rows_N3), lambda drawn: accuracy(rows_N3[drawn])),
        }

    def _figures(self) -> NDArray[np.float64]:
        return np.array(self._rows, dtype=np.float64).reshape(len(self._rows), 3)


def row_loss(scores: Scores) -> float:
    """Return the mean negative log-likelihood of a row's (3,) figures, 0 of no tokens."""
    return float(scores[0]) / max(1.0, float(scores[2]))


def perplexity(rows_N3: NDArray[np.float64]) -> float:
    """Return exp(total negative log-likelihood / tokens); infinite past what a float holds."""
    mean = rows_N3[:, 0].sum() / max(1.0, rows_N3[:, 2].sum())
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def accuracy(rows_N3: NDArray[np.float64]) -> float:
    """Return the share of tokens that were the likeliest."""
    return float(rows_N3[:, 1].sum() / max(1.0, rows_N3[:, 2].sum()))

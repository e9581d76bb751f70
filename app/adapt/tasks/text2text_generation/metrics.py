"""Perplexity, and how often an answer is the one that was wanted, word for word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.language_metrics import TokenMetrics

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded


class ExactMetrics(TokenMetrics):
    """The share of answers that are one of their references, in 0 to 1, beside the tokens' figures."""

    def __init__(self) -> None:
        super().__init__()
        self._right: list[bool] = []

    def add_generated(self, answers: Sequence[Any], items: Sequence[Encoded]) -> None:
        """Judge the first answer to each row; spaces around it do not count."""
        for found, item in zip(answers, items, strict=True):
            wanted = {text.strip() for text in item.extra["references"]}
            self._right.append(found[0].text.strip() in wanted)

    def compute(self) -> dict[str, float]:
        """Return exact_match where answers were judged, perplexity and token accuracy."""
        judged = {"exact_match": float(np.mean(self._right))} if self._right else {}
        return judged | super().compute()

    def details(self) -> dict[str, Any]:
        """Return on how many rows exact_match was taken."""
        return {"generated_rows": len(self._right)}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of every figure."""
        right_N = np.array(self._right, dtype=np.float64)
        found = super().intervals()
        if len(right_N):
            found["exact_match"] = bootstrap(
                len(right_N), lambda drawn: float(right_N[drawn].mean())
            )
        return found

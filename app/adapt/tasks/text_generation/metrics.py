"""Perplexity and a few answers to look at; of preferences, how often and how far the better one wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.language_metrics import TokenMetrics
from app.adapt.task import Metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

SHOWN = 500


class GenerationMetrics(TokenMetrics):
    """Perplexity and accuracy of the answers' tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._samples: list[dict[str, str]] = []

    def add_generated(self, answers: Sequence[Any], items: Sequence[Encoded]) -> None:
        """Keep answers to be looked at."""
        for found, item in zip(answers, items, strict=True):
            texts = (item.extra["prompt"], found[0].text, item.extra["expected"])
            names = ("prompt", "answer", "expected")
            self._samples.append(
                {name: text[:SHOWN] for name, text in zip(names, texts, strict=True)}
            )

    def details(self) -> dict[str, Any]:
        """Return the answers."""
        return {"samples": self._samples} if self._samples else {}


class PreferenceMetrics(Metrics):
    """Implicit rewards log pi(y|x) - log pi_ref(y|x), in nats: how often the chosen one's is greater.

    Source: Rafailov et al. 2023 (arXiv 2305.18290), section 5; beta is left out, so that runs compare.
    """

    def __init__(self) -> None:
        self._rows: list[Scores] = []

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take (2,) of each pair: the rewards of the chosen and of the rejected answer."""
        del items
        self._rows += scores

    def compute(self) -> dict[str, float]:
        """Return reward_accuracy, reward_margin and both rewards; ties are half right."""
        rows_N2 = self._rewards()
        if not len(rows_N2):
            rows_N2 = np.zeros((1, 2))
        return {
            "reward_accuracy": _accuracy(rows_N2),
            "reward_margin": float((rows_N2[:, 0] - rows_N2[:, 1]).mean()),
            "reward_chosen": float(rows_N2[:, 0].mean()),
            "reward_rejected": float(rows_N2[:, 1].mean()),
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of accuracy and margin."""
        rows_N2 = self._rewards()
        if not len(rows_N2):
            return {}

        def margin(drawn: NDArray[np.int64]) -> float:
            return float((rows_N2[drawn, 0] - rows_N2[drawn, 1]).mean())

        return {
            "reward_accuracy": bootstrap(len(rows_N2), lambda drawn: _accuracy(rows_N2[drawn])),
            "reward_margin": bootstrap(len(rows_N2), margin),
        }

    def _rewards(self) -> NDArray[np.float64]:
        return np.array(self._rows, dtype=np.float64).reshape(len(self._rows), 2)


def _accuracy(rows_N2: NDArray[np.float64]) -> float:
    gains = rows_N2[:, 0] - rows_N2[:, 1]
    return float(np.where(gains == 0, 0.5, gains > 0).mean())

"""Exact match and F1 by torchmetrics, which repeats the SQuAD script; of Chinese, by characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.task import Metrics
from app.adapt.tasks.question_answering.predict import (
    MAX_ANSWER_LENGTH,
    Window,
    candidates,
    window_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores
    from app.adapt.tasks.question_answering.data import Answers

UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
PERCENT = 100


class AnswerMetrics(Metrics):
    """Exact match and F1 in 0 to 1, over all questions, and apart for those with and without answer."""

    def __init__(self, *, may_be_none: bool) -> None:
        self._may_be_none = may_be_none
        self._windows: dict[int, list[Window]] = {}
        self._answers: dict[int, Answers] = {}
        self._judged: NDArray[np.float64] | None = None

    def add(self, scores: Sequence[Scores], items: Sequence[Encoded]) -> None:
        """Take logits (T, 2) of windows; those of one context may come in any order."""
        self._judged = None
        for row, item in zip(scores, items, strict=True):
            self._windows.setdefault(item.example, []).append(window_of(row, item))
            self._answers[item.example] = item.extra["answers"]

    def compute(self) -> dict[str, float]:
        """Return exact_match and f1."""
        rows = self._rows()
        if not len(rows):
            return {"exact_match": 0.0, "f1": 0.0}
        return {"exact_match": float(rows[:, 0].mean()), "f1": float(rows[:, 1].mean())}

    def details(self) -> dict[str, Any]:
        """Return both, apart for questions with and without an answer."""
        rows = self._rows()
        has = np.array([bool(self._answers[example].texts) for example in sorted(self._answers)])
        return {
            name: {
                "rows": int(which.sum()),
                "exact_match": float(rows[which, 0].mean()),
                "f1": float(rows[which, 1].mean()),
            }
            for name, which in (("with_answer", has), ("without_answer", ~has))
            if which.any()
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of both."""
        rows = self._rows()
        if not len(rows):
            return {}

        def mean(column: int) -> tuple[float, float]:
            return bootstrap(len(rows), lambda drawn: float(rows[drawn, column].mean()))

        return {"exact_match": mean(0), "f1": mean(1)}

    def _rows(self) -> NDArray[np.float64]:
        """Return (N, 2): exact match and F1 of each question."""
        if self._judged is None:
            rows = [
                _judge(self._best(self._windows[example]), self._answers[example])
                for example in sorted(self._windows)
            ]
            self._judged = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
        return self._judged

    def _best(self, windows: Sequence[Window]) -> str:
        ranked, none = candidates(windows, MAX_ANSWER_LENGTH)
        if not ranked or (self._may_be_none and none.logit > ranked[0].logit):
            return ""
        return windows[0].context[ranked[0].start : ranked[0].end]


def _judge(given: str, answers: Answers) -> tuple[float, float]:
    from torchmetrics.functional.text import squad

    # No answer is the empty answer, as in the script of SQuAD 2.0.
    texts = [by_characters(text) for text in answers.texts] or [""]
    figures: Any = cast("Any", squad)(
        [{"prediction_text": by_characters(given), "id": "0"}],
        [{"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": "0"}],
    )
    return float(figures["exact_match"]) / PERCENT, float(figures["f1"]) / PERCENT


def by_characters(text: str) -> str:
    """Return a text of a script without spaces with its characters apart and without punctuation.

    Source: the mixed segmentation of CMRC 2018 (Cui et al. 2019, arXiv 1810.07366) and MLQA. Texts of
    other scripts stay as they are: the SQuAD script knows what to do with them.
    """
    if not UNSPACED.search(text):
        return text
    spaced = UNSPACED.sub(lambda found: f" {found[0]} ", text)
    return "".join(" " if unicodedata.category(sign)[0] == "P" else sign for sign in spaced)

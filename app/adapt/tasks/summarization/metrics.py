"""ROUGE by rouge-score, which repeats the original script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.adapt.interval import bootstrap
from app.adapt.language_metrics import TokenMetrics

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded, Generated

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\\W_\u3040-\u9fff\uf900-\ufaff]+"
)


class SummaryMetrics(TokenMetrics):
    """F1 of ROUGE-1, -2, -L and -Lsum in 0 to 1; of several references the best counts."""

    def __init__(self) -> None:
        super().__init__()
        self._judged: list[list[float]] = []

    def add_generated(self, answers: Sequence[Any], items: Sequence[Encoded]) -> None:
        """Judge the first answer to each row."""
        scorer = _scorer()
        for found, item in zip(answers, items, strict=True):
            first: Generated = found[0]
            figures = scorer.score_multi(item.extra["references"], first.text)
            self._judged.append([figures[kind].fmeasure for kind in KINDS])

    def compute(self) -> dict[str, float]:
        """Return the means, perplexity and token accuracy."""
        means = np.mean(self._judged, axis=0).tolist() if self._judged else [0.0] * len(KINDS)
        return dict(zip(KINDS, means, strict=True)) | super().compute()

    def details(self) -> dict[str, Any]:
        """Return on how many rows ROUGE was taken."""
        return {"generated_rows": len(self._judged)}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of every figure."""
        rows_NK = np.array(self._judged)
        found = {
            kind: bootstrap(len(rows_NK), lambda drawn, at=at: float(rows_NK[drawn, at].mean()))
            for at, kind in enumerate(KINDS)
            if len(rows_NK)
        }
        return found | super().intervals()


def rouge_l(text: str, references: Sequence[str]) -> float:
    """Return F1 of ROUGE-L of one summary; of several references the best counts."""
    return float(_scorer().score_multi(references, text)["rougeL"].fmeasure)


def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(KINDS), tokenizer=cast("Any", Words()))


class Words:
    """rouge-score's own words with Porter's stemmer for ASCII; it would drop every other letter.

    Other texts are cut into words without stemming, and into characters where a script has no spaces
    (as in Hu et al. 2015, arXiv 1506.05865, for Chinese).
    """

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._ascii: Any = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return self._ascii.tokenize(text) if text.isascii() else WORD.findall(text.lower())

"""BLEU and chrF by sacreBLEU, with the signatures that make them comparable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from app.adapt.interval import bootstrap
from app.adapt.language_metrics import TokenMetrics

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded, Generated

CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]")  # Thai to kana
SAMPLE = 1_000
RESAMPLES = 300
HALF = 0.5


class TranslationMetrics(TokenMetrics):
    """BLEU and chrF2 in 0 to 100, as sacreBLEU has them, of the whole set.

    Source: Post 2018 (arXiv 1804.08771); Popović 2015 for chrF.
    """

    def __init__(self, segmentation: str) -> None:
        super().__init__()
        self._segmentation = segmentation
        self._written: list[str] = []
        self._references: list[Sequence[str]] = []

    def add_generated(self, answers: Sequence[Any], items: Sequence[Encoded]) -> None:
        """Take the first answer to each row."""
        for found, item in zip(answers, items, strict=True):
            first: Generated = found[0]
            self._written.append(first.text)
            self._references.append(item.extra["references"])

    def compute(self) -> dict[str, float]:
        """Return bleu, chrf, perplexity and token accuracy."""
        if not self._written:
            return {"bleu": 0.0, "chrf": 0.0} | super().compute()
        return {
            name: float(metric.corpus_score(self._written, self._streams()).score)
            for name, metric in self._metrics().items()
        } | super().compute()

    def details(self) -> dict[str, Any]:
        """Return on how many rows they were taken, and their signatures."""
        if not self._written:
            return {"generated_rows": 0}
        signatures: dict[str, str] = {}
        for name, metric in self._metrics().items():
            metric.corpus_score(self._written, self._streams())
            signatures[name] = str(metric.get_signature())
        return {"generated_rows": len(self._written), "signatures": signatures}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return those of every figure."""
        found = super().intervals()
        if not self._written:
            return found
        for name, metric in self._metrics().items():
            # sacreBLEU's own bootstrap mixes float types and fails where a draw has no match at all;
            # what it draws from has no public name.
            rows = metric._extract_corpus_statistics(self._written, self._streams())  # noqa: SLF001
            compute = metric._aggregate_and_compute  # noqa: SLF001

            def score(drawn: Any, compute: Any = compute, rows: Any = rows) -> float:
                return float(compute([rows[at] for at in drawn]).score)

            found[name] = bootstrap(len(rows), score, resamples=RESAMPLES)
        return found

    def _metrics(self) -> dict[str, Any]:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        return {"bleu": BLEU(tokenize=self._segmentation), "chrf": CHRF()}

    def _streams(self) -> list[list[str | None]]:
        """Return the references as sacreBLEU wants them: the first of each row, the second of each, ..."""
        most = max(map(len, self._references))
        return [
            [texts[at] if at < len(texts) else None for texts in self._references]
            for at in range(most)
        ]


def sentence_chrf(text: str, references: Sequence[str]) -> float:
    """Return chrF2 in 0 to 100 of one sentence, as sacreBLEU has it."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(text, list(references)).score)


def segmentation_for(targets: Iterable[str]) -> str:
    """Return the sacreBLEU tokenizer for most of these texts: zh, char for other scripts without spaces."""
    sample = list(islice(targets, SAMPLE))
    if sum(bool(UNSPACED.search(text)) for text in sample) > len(sample) * HALF:
        return "char"
    if sum(bool(CHINESE.search(text)) for text in sample) > len(sample) * HALF:
        return "zh"
    return "13a"

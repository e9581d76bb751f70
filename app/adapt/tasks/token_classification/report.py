"""What people should know about their data before they train on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.adapt.task import DataReport, Example
from app.adapt.tasks.token_classification.data import Marked, text_and_words

FEW_SPANS = 8
SHOWN = 10


def describe(rows: int, examples: Sequence[Example]) -> DataReport:
    """Count labels, spans and words, and warn about what usually hurts."""
    marked: list[Marked] = [example.target for example in examples]
    counts = Counter(span.label for target in marked for span in target.spans)
    words = sorted(len(text_and_words(example.inputs)[1]) for example in examples)
    texts = {str(example.inputs) for example in examples}
    empty = sum(not target.spans for target in marked)
    statistics: dict[str, Any] = {
        "labels": dict(counts.most_common()),
        "spans": counts.total(),
        "texts_without_spans": empty,
        "duplicates": len(examples) - len(texts),
    }
    if words:
        last = len(words) - 1
        statistics["words"] = {"min": words[0], "p50": words[last // 2],
                               "p95": words[int(last * 0.95)], "max": words[last]}  # fmt: skip
    return DataReport(
        rows=rows,
        usable=len(examples),
        warnings=_warnings(rows, examples, counts),
        statistics=statistics,
    )


def _warnings(rows: int, examples: Sequence[Example], counts: Counter[str]) -> list[str]:
    warnings: list[str] = []
    broken = [example for example in examples if example.target.broken]
    if broken:
        total = sum(example.target.broken for example in broken)
        where = ", ".join(str(example.row) for example in broken[:SHOWN])
        more = ", ..." if len(broken) > SHOWN else ""
        warnings.append(
            f"{total} tags go on in a span that has not begun (rows {where}{more}); they are read as "
            "its beginning, as in the IOB1 scheme"
        )
    if rows > len(examples):
        warnings.append(f"{rows - len(examples)} of {rows} rows cannot be used")
    scarce = sorted(label for label, count in counts.items() if count < FEW_SPANS)
    if scarce:
        listed = ", ".join(map(repr, scarce[:SHOWN]))
        warnings.append(f"labels with fewer than {FEW_SPANS} spans: {listed}")
    return warnings

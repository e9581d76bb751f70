"""What people should know about their data before they train on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.adapt.task import DataReport, Example
from app.adapt.tasks.token_classification.data import Marked, text_and_words
from app.kit.counting import counted, in_rows, listed

FEW_SPANS = 8


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
    scarce = sorted(label for label, count in counts.items() if count < FEW_SPANS)
    few = f"labels with fewer than {FEW_SPANS} spans: {listed(scarce)}"
    return DataReport(
        rows=rows,
        usable=len(examples),
        warnings=[few] if scarce else [],
        statistics=statistics,
        repairs=_repairs(examples),
    )


def _repairs(examples: Sequence[Example]) -> list[str]:
    repairs: list[str] = []
    broken = [example.row for example in examples if example.target.broken]
    if broken:
        count = counted(sum(e.target.broken for e in examples), "tag")
        repairs.append(
            f"{count} out of sequence ({in_rows(broken)}): what goes on in a span that has not begun "
            "begins it, as in the IOB1 scheme, and what is left open ends"
        )
    doubled = [example.row for example in examples if example.target.doubled]
    if doubled:
        count = counted(sum(e.target.doubled for e in examples), "span is", "spans are")
        repairs.append(f"{count} given twice, and taken once ({in_rows(doubled)})")
    return repairs

"""What people should know about their data before they train on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.adapt.task import DataReport, Example
from app.adapt.tasks.text_classification.data import labels_of

IMBALANCE = 10
FEW_ROWS = 8
SHOWN = 10


def describe(rows: int, examples: Sequence[Example], problem: str) -> DataReport:
    """Count labels, lengths and duplicates, and warn about what usually hurts."""
    warnings: list[str] = []
    statistics: dict[str, Any] = {"characters": _lengths(examples)}
    duplicates = len(examples) - len({tuple(sorted(e.inputs.items())) for e in examples})
    statistics["duplicates"] = duplicates
    if duplicates:
        warnings.append(f"{duplicates} rows repeat the text of another row")
    skipped = rows - len(examples)
    if skipped:
        warnings.append(f"{skipped} of {rows} rows cannot be used")
    if problem == "regression":
        values = sorted(float(example.target) for example in examples)
        if values:
            statistics["target"] = {
                "min": values[0],
                "max": values[-1],
                "mean": sum(values) / len(values),
            }
    else:
        counts = Counter(label for example in examples for label in labels_of(example.target))
        statistics["labels"] = dict(counts.most_common())
        warnings += _label_warnings(counts)
        if problem == "single_label" and counts:
            statistics["majority_share"] = counts.most_common(1)[0][1] / len(examples)
    return DataReport(rows=rows, usable=len(examples), warnings=warnings, statistics=statistics)


def _label_warnings(counts: Counter[str]) -> list[str]:
    if not counts:
        return []
    warnings: list[str] = []
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many > IMBALANCE * few:
        warnings.append(
            f"the labels are uneven: {most!r} has {many} rows, {least!r} has {few}; "
            'consider optimization.class_weights = "balanced"'
        )
    scarce = [label for label, count in counts.items() if count < FEW_ROWS]
    if scarce:
        listed = ", ".join(repr(label) for label in sorted(scarce)[:SHOWN])
        more = f" and {len(scarce) - SHOWN} more" if len(scarce) > SHOWN else ""
        warnings.append(f"labels with fewer than {FEW_ROWS} rows: {listed}{more}")
    twins: dict[str, list[str]] = {}
    for label in counts:
        twins.setdefault(" ".join(label.lower().split()), []).append(label)
    warnings += [
        f"these labels differ in case or spaces only: {sorted(group)}"
        for group in twins.values()
        if len(group) > 1
    ]
    return warnings


def _lengths(examples: Sequence[Example]) -> dict[str, float]:
    lengths = sorted(sum(len(text) for text in example.inputs.values()) for example in examples)
    if not lengths:
        return {}
    last = len(lengths) - 1
    return {
        "min": lengths[0],
        "mean": sum(lengths) / len(lengths),
        "p50": lengths[last // 2],
        "p95": lengths[int(last * 0.95)],
        "max": lengths[-1],
    }

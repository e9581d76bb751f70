"""What people should know about their data before they train on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.adapt.labels import looks_missing
from app.adapt.task import DataReport, Example
from app.adapt.tasks.text_classification.data import labels_of
from app.kit.counting import counted, cut, in_rows, listed

IMBALANCE = 10
FEW_ROWS = 8
LARGE = 100  # a head begins near 0, and small steps take long to get there


def describe(rows: int, examples: Sequence[Example], problem: str) -> DataReport:
    """Count labels, lengths and duplicates, and warn about what usually hurts."""
    warnings: list[str] = []
    statistics: dict[str, Any] = {"characters": _lengths(examples)}
    duplicates = len(examples) - len({tuple(sorted(e.inputs.items())) for e in examples})
    statistics["duplicates"] = duplicates
    if duplicates:
        count = counted(duplicates, "row repeats", "rows repeat")
        warnings.append(f"{count} the text of another row")
        warnings += _contradictions(examples)
    if problem == "regression":
        values = sorted(float(example.target) for example in examples)
        if values:
            statistics["target"] = {
                "min": values[0],
                "max": values[-1],
                "mean": sum(values) / len(values),
            }
            if max(map(abs, values)) > LARGE:
                warnings.append(
                    f"the numbers go from {values[0]:g} to {values[-1]:g}: a regression learns them "
                    "better when they are scaled to about 0 to 1"
                )
    else:
        counts = Counter(label for example in examples for label in labels_of(example.target))
        statistics["labels"] = dict(counts.most_common())
        warnings += _label_warnings(counts, examples)
        if problem == "single_label" and counts:
            statistics["majority_share"] = counts.most_common(1)[0][1] / len(examples)
    return DataReport(rows=rows, usable=len(examples), warnings=warnings, statistics=statistics)


def _contradictions(examples: Sequence[Example]) -> list[str]:
    """Say which texts have two labels, of which a model can learn one at most."""
    seen: dict[Any, dict[str, int]] = {}
    for example in examples:
        text = tuple(sorted(example.inputs.items()))
        seen.setdefault(text, {}).setdefault(str(example.target), example.row)
    twice = [list(rows.values()) for rows in seen.values() if len(rows) > 1]
    if not twice:
        return []
    count = counted(len(twice), "text has", "texts have")
    return [f"{count} different labels in different rows (the first: {in_rows(twice[0])})"]


def _label_warnings(counts: Counter[str], examples: Sequence[Example]) -> list[str]:
    if not counts:
        return []
    warnings: list[str] = []
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many > IMBALANCE * few:
        warnings.append(
            f"the labels are uneven: {cut(most)!r} has {many} rows, {cut(least)!r} has {few}; "
            'consider optimization.class_weights = "balanced"'
        )
    scarce = sorted(label for label, count in counts.items() if count < FEW_ROWS)
    if scarce:
        warnings.append(f"labels with fewer than {FEW_ROWS} rows: {listed(scarce)}")
    twins: dict[str, list[str]] = {}
    for label in counts:
        twins.setdefault(" ".join(label.lower().split()), []).append(label)
    warnings += [
        f"these labels differ in case or spaces only: {sorted(map(cut, group))}"
        for group in twins.values()
        if len(group) > 1
    ]
    return warnings + _odd_labels(examples)


def _odd_labels(examples: Sequence[Example]) -> list[str]:
    """Say which labels are of another kind than the others, or stand for a label that is missing."""
    warnings: list[str] = []
    lists = [example.row for example in examples if isinstance(example.target, list)]
    others = [example.row for example in examples if not isinstance(example.target, list)]
    if lists and len(lists) <= len(others):
        count = counted(len(lists), "label is a list", "labels are lists")
        warnings.append(
            f"{count} and the others are not: that makes it multi-label ({in_rows(lists)})"
        )
    elif lists and others:
        count = counted(len(others), "label is not a list", "labels are not lists")
        warnings.append(f"{count}: each is read as a list of one ({in_rows(others)})")
    missing = [e.row for e in examples if any(map(looks_missing, labels_of(e.target)))]
    if missing:
        count = counted(len(missing), "label looks", "labels look")
        warnings.append(f"{count} like a missing value, such as 'nan' ({in_rows(missing)})")
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

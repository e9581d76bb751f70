"""From rows to examples to token ids. Torch-free: the tokenizer is handed in."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.adapt.labels import label_of
from app.adapt.lengths import was_cut
from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import Example
from app.errors import InvalidData
from app.kit.counting import cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_LABELS = 10_000
FEW_LABELS = 50  # up to here, labels that nearly all differ may be meant
LARGEST = 1e15  # losses are squares of 32-bit numbers, which end at 3.4e38
SHOWN = 80


def parse(
    rows: Iterable[Row], columns: Mapping[str, str], problems: Problems, *, wants_pair: bool
) -> list[Example]:
    """Read each row's texts and target; what cannot be used is a problem with row and column."""
    examples: list[Example] = []
    for row in rows:
        inputs: dict[str, Any] = {}
        text = _text(row, columns["text"], problems)
        if text is None:
            continue
        inputs["text"] = text
        if wants_pair and "text_pair" in columns:
            second = _text(row, columns["text_pair"], problems, "the second text of the pair")
            if second is None:
                continue
            inputs["text_pair"] = second
        target = _target(row, columns["label"], problems)
        if target is None:
            continue
        examples.append(Example(row=row.number, inputs=inputs, target=target))
    return examples


def _text(row: Row, column: str, problems: Problems, name: str = "the text") -> str | None:
    value = as_text(row.values.get(column))
    if isinstance(value, str) and value.strip():
        return value
    if value is None or isinstance(value, str):
        what = "is empty" if column in row.values else "is missing"
        problems.add(Problem("empty_text", f"{name} {what}", row.number, column))
    else:
        message = f"{name} must be a string, not {type(value).__name__}"
        problems.add(Problem("wrong_type", message, row.number, column, cut(str(value), SHOWN)))
    return None


def as_text(value: Any) -> Any:
    """Return a number as its text, and anything else as it is."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else value


def _target(row: Row, column: str, problems: Problems) -> Any:
    value = row.values.get(column)
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        problems.add(Problem("empty_label", "the label is empty", row.number, column))
        return None
    if isinstance(value, float) and not math.isfinite(value):
        message = "the label must be a finite number"
        problems.add(Problem("wrong_type", message, row.number, column, cut(str(value), SHOWN)))
        return None
    if isinstance(value, list):
        labels = [item.strip() if isinstance(item, str) else item for item in value]
        if any(isinstance(item, (list, dict)) or item in (None, "") for item in labels):
            message = "a list of labels must hold strings or numbers"
            problems.add(Problem("wrong_type", message, row.number, column, cut(str(value), SHOWN)))
            return None
        return [label_of(item) for item in labels]
    if isinstance(value, dict):
        message = "the label must be a string, a number or a list"
        problems.add(Problem("wrong_type", message, row.number, column, cut(str(value), SHOWN)))
        return None
    return value


def detect_problem(examples: Sequence[Example]) -> Any:
    """Lists are multi-label; numbers, some with a fraction, are regression; else one label."""
    targets = [example.target for example in examples]
    if any(isinstance(target, list) for target in targets):
        return "multi_label"
    numbers = [number for number in map(_number, targets) if number is not None]
    is_numeric = len(numbers) == len(targets) and bool(targets)
    if is_numeric and any(not number.is_integer() for number in numbers):
        return "regression"
    return "single_label"


def _number(value: Any) -> float | None:
    if isinstance(value, bool | list):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _too_many_labels(
    found: Collection[str], examples: Sequence[Example], filename: str
) -> InvalidData:
    message = (
        f"{filename}: the label column has {len(found)} different values in "
        f"{len(examples)} rows; is it the right column?"
    )
    numbers = sum(_number(label) is not None for label in found)
    if numbers > len(found) / 2:
        message += (
            f' {numbers} of them are numbers: to predict a number, set task.problem to "regression"'
        )
    return InvalidData(message, param="data.columns.label", code="too_many_labels",
                       details={"file": filename, "labels": len(found)})  # fmt: skip


def too_few_labels(found: Collection[str], filename: str) -> InvalidData:
    """Return the error for data that cannot tell anything apart."""
    only = f"only the label {next(iter(found))!r}" if found else "no label"
    message = f"{filename} has {only}; a classifier needs at least two"
    return InvalidData(message, param="data.train", code="one_label",
                       details={"file": filename, "labels": sorted(found)})  # fmt: skip


def fit_labels(
    examples: Sequence[Example], problem: str, given: list[str] | None, filename: str
) -> list[str] | None:
    """Return the labels, numbers by value and names by alphabet; None for regression.

    Raises:
        InvalidData: no usable row, or fewer than two labels.
    """
    if not examples:
        message = f"{filename} has no usable row"
        raise InvalidData(message, param="data.train", code="no_usable_rows",
                          details={"file": filename})  # fmt: skip
    if problem == "regression":
        values = {_number(example.target) for example in examples}
        if len(values) == 1 and None not in values:
            message = f"{filename} has the same number in every row: there is nothing to learn"
            raise InvalidData(message, param="data.train", code="one_value",
                              details={"file": filename})  # fmt: skip
        return None
    found = {label for example in examples for label in labels_of(example.target)}
    if len(found) < 2:  # noqa: PLR2004
        raise too_few_labels(found, filename)
    if given is not None:
        return given
    if problem == "single_label":
        _check_kinds(examples, filename)
    if len(found) > MAX_LABELS or (
        problem == "single_label" and len(found) > len(examples) / 2 > FEW_LABELS
    ):
        raise _too_many_labels(found, examples, filename)
    if all(_number(label) is not None for label in found):
        return sorted(found, key=lambda label: (float(label), label))
    return sorted(found)


def _check_kinds(examples: Sequence[Example], filename: str) -> None:
    """Refuse labels that are numbers with fractions, but for a few that are none.

    Raises:
        InvalidData: so are more than half of them.
    """
    numbers = [_number(example.target) for example in examples]
    fractions = sum(number is not None and not number.is_integer() for number in numbers)
    if fractions <= len(examples) / 2:
        return
    odd = next(e for e, number in zip(examples, numbers, strict=True) if number is None)
    message = (
        f"{filename}, row {odd.row}: the label {cut(str(odd.target))!r} is not a number, and {fractions} "
        f"of {len(examples)} labels are numbers with fractions; mend it to predict a number, or name the "
        "labels in task.labels"
    )
    raise InvalidData(message, param="data.columns.label", code="mixed_labels",
                      details={"file": filename, "row": odd.row})  # fmt: skip


def labels_of(target: Any) -> list[str]:
    """Return a target as the list of its labels."""
    return target if isinstance(target, list) else [label_of(target)]


def check(
    examples: Sequence[Example], problem: str, labels: Sequence[str], problems: Problems
) -> list[Example]:
    """Return the examples whose target fits; the others are problems that name the known labels."""
    known = set(labels)
    kept: list[Example] = []
    for example in examples:
        fault = _fault(example.target, problem, known)
        if fault is None:
            kept.append(example)
        else:
            problems.add(Problem(*fault, example.row, "label", cut(str(example.target), SHOWN)))
    return kept


def _fault(target: Any, problem: str, known: set[str]) -> tuple[str, str] | None:
    if problem == "regression":
        number = _number(target)
        if number is None:
            return "wrong_type", "the label must be a number (task.problem is regression)"
        if abs(number) > LARGEST:
            return "out_of_range", f"the number is larger than {LARGEST:g}; scale the labels down"
        return None
    if problem == "single_label" and isinstance(target, list):
        return "wrong_type", "the label must be one label, not a list (task.problem: multi_label)"
    for label in labels_of(target):
        if label not in known:
            close = difflib.get_close_matches(label, known, n=1)
            hint = f"; did you mean {cut(close[0])!r}?" if close else ""
            names = ", ".join(map(cut, sorted(known)[:20])) + (", ..." if len(known) > 20 else "")  # noqa: PLR2004
            return "unknown_label", (
                f"the label {cut(label)!r} is not among those that are learned ({names}){hint}"
            )
    return None


def encode(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    max_length: int,
    problem: str,
    labels: Sequence[str],
) -> list[Encoded]:
    """Tokenize in one batch; `extra["truncated"]` says that the text was cut."""
    if not examples:
        return []
    index = {label: position for position, label in enumerate(labels)}
    pairs = [e.inputs["text_pair"] for e in examples] if "text_pair" in examples[0].inputs else None
    batch: Any = tokenizer(
        [example.inputs["text"] for example in examples],
        pairs,
        truncation="longest_first" if pairs else True,
        max_length=max_length,
        return_attention_mask=False,
    )
    types = batch.get("token_type_ids")
    return [
        Encoded(
            input_ids=ids,
            token_type_ids=None if types is None else types[position],
            target=None
            if example.target is None
            else _encode_target(example.target, problem, index),
            row=example.row,
            example=position,
            extra={"truncated": was_cut(batch, position, max_length)},
        )
        for position, (example, ids) in enumerate(zip(examples, batch["input_ids"], strict=True))
    ]


def _encode_target(target: Any, problem: str, index: Mapping[str, int]) -> Any:
    if problem == "regression":
        return float(target)
    if problem == "single_label":
        return index[label_of(target)]
    return [index[label] for label in labels_of(target)]


def no_pair(filename: str) -> InvalidData:
    """Return the error for a task of pairs whose data has no second text."""
    message = f"{filename} has no second text column; name one with data.columns.text_pair"
    return InvalidData(message, param="data.columns.text_pair", code="column_not_found",
                       details={"file": filename})  # fmt: skip

"""From rows to examples to token ids of one, two or three texts. Torch-free."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example
from app.errors import InvalidData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Form = Literal["scored", "pairs", "labelled"]
FORMS: tuple[tuple[Form, tuple[str, ...]], ...] = (
    ("scored", ("sentence1", "sentence2", "score")),
    ("pairs", ("sentence1", "sentence2")),
    ("labelled", ("text", "label")),
)
TEXTS = ("sentence1", "sentence2", "negative", "text")


@dataclass(frozen=True, slots=True)
class Likeness:
    """The target: a score of a pair, the label of a text, or nothing where pairs belong together."""

    form: Form
    value: Any = None


def form_of(columns: Mapping[str, str], wanted: str) -> Form | None:
    """Return the form that these roles make, None when something is missing."""
    for form, roles in FORMS:
        if wanted in {"auto", form} and all(role in columns for role in roles):
            return form
    return None


def parse(
    rows: Iterable[Row], columns: Mapping[str, str], problems: Problems, *, form: Form
) -> list[Example]:
    """Return the examples of a form; what cannot be used is a problem with row and column."""
    named = dict(FORMS)[form]
    wanted = [role for role in (*named, "negative") if role in TEXTS and role in columns]
    if form != "pairs":
        wanted = [role for role in wanted if role != "negative"]
    examples: list[Example] = []
    for row in rows:
        inputs = {role: row.values.get(columns[role]) for role in wanted}
        wrong = next(
            (r for r, t in inputs.items() if not isinstance(t, str) or not t.strip()), None
        )
        target = _target(row, columns, form)
        if wrong is not None:
            is_empty = inputs[wrong] is None or isinstance(inputs[wrong], str)
            message = f"the {wrong} is empty" if is_empty else f"the {wrong} must be a text"
            problems.add(Problem("empty_text", message, row.number, columns[wrong]))
        elif isinstance(target, Problem):
            problems.add(target)
        else:
            examples.append(Example(row.number, inputs, target))
    return examples


def _target(row: Row, columns: Mapping[str, str], form: Form) -> Likeness | Problem:
    if form == "pairs":
        return Likeness(form)
    role = "score" if form == "scored" else "label"
    value = row.values.get(columns[role])
    if form == "labelled":
        if value is None or value == "" or isinstance(value, list | dict):
            message = "the label is empty" if not value else "the label must be one value"
            return Problem("empty_label", message, row.number, columns[role])
        return Likeness(form, str(value))
    try:
        number = float(value)  # pyright: ignore[reportArgumentType] - None and lists are caught
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        message = "the score must be a number"
        return Problem("not_a_number", message, row.number, columns[role], str(value)[:80])
    return Likeness(form, number)


def check_enough(examples: Sequence[Example], filename: str) -> None:
    """Refuse data that can teach no likeness.

    Raises:
        InvalidData: no usable row, one score only, or no two texts of one label.
    """

    def refuse(code: str, message: str) -> None:
        raise InvalidData(
            f"{filename} {message}", param="data.train", code=code, details={"file": filename}
        )

    if not examples:
        refuse("no_usable_rows", "has no usable row")
    form = examples[0].target.form
    counts = Counter(example.target.value for example in examples)
    if form == "scored" and len(counts) == 1:
        refuse("one_score", "has the same score in every row: there is nothing to tell apart")
    if form == "labelled" and (len(counts) == 1 or max(counts.values()) == 1):
        refuse("labels_do_not_pair", "needs two labels, and one that two texts have")


def describe(rows: int, examples: Sequence[Example]) -> DataReport:
    """Count texts and lengths; warn of pairs that are doubled, or the same on both sides."""
    warnings: list[str] = []
    same = sum(
        e.inputs.get("sentence1") == e.inputs["sentence2"]
        for e in examples
        if "sentence2" in e.inputs
    )
    if same and examples[0].target.form == "pairs":
        warnings.append(f"{same} pairs are the same text twice and teach nothing")
    doubled = len(examples) - len({tuple(e.inputs.values()) for e in examples})
    if doubled:
        warnings.append(f"{doubled} rows repeat another one word for word")
    if rows > len(examples):
        warnings.append(f"{rows - len(examples)} of {rows} rows cannot be used")
    lengths = sorted(len(text) for e in examples for text in e.inputs.values())
    statistics: dict[str, Any] = {
        "form": examples[0].target.form if examples else None,
        "characters": {"p50": lengths[len(lengths) // 2], "max": lengths[-1]} if lengths else {},
    }
    if examples and examples[0].target.form == "labelled":
        statistics["labels"] = dict(Counter(e.target.value for e in examples).most_common())
    return DataReport(rows, len(examples), warnings, statistics)


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int,
    score_range: tuple[float, float] | None,
) -> list[Encoded]:  # fmt: skip
    """Return one row for each example: the first text's ids, and the others' beside them.

    The target is a score brought to 0 to 1, a label's text, or the positive's text.
    """
    texts = [_texts(example) for example in examples]
    flat = [text for group in texts for text in group]
    if not flat:
        return []
    made: Any = tokenizer
    ids = iter(
        made(flat, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
    )
    rows: list[Encoded] = []
    for index, (example, group) in enumerate(zip(examples, texts, strict=True)):
        first, *others = [next(ids) for _ in group]
        rows.append(
            Encoded(
                first,
                target=None if example.target is None else _number(example, score_range),
                row=example.row,
                example=index,
                others=tuple(others),
                extra={"texts": group, "asks": list(example.inputs)},
            )
        )
    return rows


def _texts(example: Example) -> list[str]:
    found: list[str] = []
    for value in example.inputs.values():
        found += value if isinstance(value, list) else [value]
    return found


def _number(example: Example, score_range: tuple[float, float] | None) -> float | str:
    if example.target.form == "scored":
        low, high = score_range or (0.0, 1.0)
        return (example.target.value - low) / (high - low)
    if example.target.form == "labelled":
        return str(example.target.value)
    return str(example.inputs["sentence2"])

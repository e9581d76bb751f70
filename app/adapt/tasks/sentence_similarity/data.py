"""From rows to examples to token ids of one, two or three texts. Torch-free."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.adapt.labels import label_of
from app.adapt.lengths import was_cut
from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import DataReport, Example
from app.errors import InvalidData
from app.kit.counting import counted, cut, in_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Form = Literal["scored", "pairs", "labelled"]
FORMS: tuple[tuple[Form, tuple[str, ...]], ...] = (
    ("scored", ("sentence1", "sentence2", "score")),
    ("pairs", ("sentence1", "sentence2")),
    ("labelled", ("text", "label")),
)
MIN_PAIRS = 3  # one is held out, and one by itself has nothing to be told from
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
        fault = _text_fault(row, inputs, columns) or _sides_fault(row, inputs, columns)
        target = _target(row, columns, form)
        if fault is not None:
            problems.add(fault)
        elif isinstance(target, Problem):
            problems.add(target)
        else:
            examples.append(Example(row.number, inputs, target))
    return examples


def _text_fault(row: Row, inputs: Mapping[str, Any], columns: Mapping[str, str]) -> Problem | None:
    for role, text in inputs.items():
        if text is not None and not isinstance(text, str):
            message = f"the {role} must be a text, not {type(text).__name__}"
            return Problem("wrong_type", message, row.number, columns[role])
        if text is None or not text.strip():
            return Problem("empty_text", f"the {role} is empty", row.number, columns[role])
    return None


def _sides_fault(row: Row, inputs: Mapping[str, Any], columns: Mapping[str, str]) -> Problem | None:
    """Refuse a triplet that says of a text both that it belongs and that it does not."""
    for role in ("sentence1", "sentence2"):
        if "negative" in inputs and inputs[role].strip() == inputs["negative"].strip():
            message = f"the negative is the same text as the {role}"
            return Problem("same_texts", message, row.number, columns["negative"])
    return None


def _target(row: Row, columns: Mapping[str, str], form: Form) -> Likeness | Problem:
    if form == "pairs":
        return Likeness(form)
    role = "score" if form == "scored" else "label"
    value = row.values.get(columns[role])
    if form == "labelled":
        if isinstance(value, list | dict):
            message = f"the label must be one value, not a {type(value).__name__}"
            return Problem("wrong_type", message, row.number, columns[role])
        label = "" if value is None else label_of(value).strip()
        if not label:
            return Problem("empty_label", "the label is empty", row.number, columns[role])
        return Likeness(form, label)
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # pyright: ignore[reportArgumentType] - None and lists are caught
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
    if form == "labelled" and len(counts) == 1:
        (only,) = counts
        refuse("one_label", f"has only the label {cut(only)!r}: there is nothing to tell apart")
    if form == "labelled" and max(counts.values()) == 1:
        refuse(
            "labels_do_not_pair",
            f"has {len(counts)} labels, each in one row: texts are alike where they share one; is it the "
            "right column?",
        )
    if form == "pairs" and "negative" not in examples[0].inputs:
        anchors = {example.inputs["sentence1"] for example in examples}
        if len(anchors) < MIN_PAIRS:
            refuse(
                "too_few_pairs",
                f"has pairs of {counted(len(anchors), 'text')} only: what belongs together is learned "
                f"against other rows; give {MIN_PAIRS} texts at least, or negatives",
            )


def describe(rows: int, examples: Sequence[Example]) -> DataReport:
    """Count texts and lengths; warn of pairs that are doubled, or the same on both sides."""
    warnings: list[str] = []
    repairs: list[str] = []
    same = [
        e.row
        for e in examples
        if "sentence2" in e.inputs and e.inputs["sentence1"] == e.inputs["sentence2"]
    ]
    if same and examples[0].target.form == "pairs":
        count = counted(len(same), "pair is", "pairs are")
        warnings.append(f"{count} the same text twice, and teach nothing ({in_rows(same)})")
    doubled = len(examples) - len({tuple(e.inputs.values()) for e in examples})
    if doubled:
        warnings.append(
            f"{counted(doubled, 'row repeats', 'rows repeat')} another one word for word"
        )
    lengths = sorted(len(text) for e in examples for text in e.inputs.values())
    statistics: dict[str, Any] = {
        "form": examples[0].target.form if examples else None,
        "characters": {"p50": lengths[len(lengths) // 2], "max": lengths[-1]} if lengths else {},
    }
    if examples and examples[0].target.form == "labelled":
        counts = Counter(e.target.value for e in examples)
        statistics["labels"] = dict(counts.most_common())
        alone = [e.row for e in examples if counts[e.target.value] == 1]
        if alone:
            count = counted(len(alone), "text has a label", "texts have labels")
            repairs.append(f"{count} that no other text of the set has ({in_rows(alone)})")
    return DataReport(rows, len(examples), warnings, statistics, repairs)


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
    batch = made(flat, truncation=True, max_length=max_length, return_attention_mask=False)
    places = iter(range(len(flat)))
    rows: list[Encoded] = []
    for index, (example, group) in enumerate(zip(examples, texts, strict=True)):
        own = [next(places) for _ in group]
        first, *others = [batch["input_ids"][place] for place in own]
        rows.append(
            Encoded(
                first,
                target=None if example.target is None else _number(example, score_range),
                row=example.row,
                example=index,
                others=tuple(others),
                extra={
                    "texts": group,
                    "asks": list(example.inputs),
                    "truncated": any(was_cut(batch, place, max_length) for place in own),
                },
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

"""From rows to examples to windows of a question with its context. Torch-free."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import Example
from app.kit.counting import cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 80
FORMS = (
    'an answer is a string, {"text": [...], "answer_start": [...]}, or a list of {"text", '
    '"answer_start"}; an empty one says that there is none'
)
CUT_NOTE = "with a question that is longer than half a window, and cut there"
LOST_NOTE = "with an answer that no window holds whole: it is taught as not being there"
QUESTION_SHARE = 2  # a question takes at most half of a window


@dataclass(frozen=True, slots=True)
class Answers:
    """The target of an example: right answers with their places in the context; none when unanswerable.

    `note` says what was put right: "moved" (the place did not hold the answer, another one does) or
    "ambiguous" (no place was given and the answer occurs several times; the first one was taken).
    """

    texts: tuple[str, ...]
    starts: tuple[int, ...]
    note: str | None = None


def parse(rows: Iterable[Row], columns: Mapping[str, str], problems: Problems) -> list[Example]:
    """Read questions, contexts and answers; what cannot be used is a problem with row and column."""
    examples: list[Example] = []
    for row in rows:
        inputs: dict[str, Any] = {}
        for role in ("question", "context"):
            value = row.values.get(columns[role])
            if not isinstance(value, str) or not value.strip():
                is_empty = value is None or isinstance(value, str)
                message = f"the {role} is empty" if is_empty else f"the {role} must be a string"
                code = "empty_text" if is_empty else "wrong_type"
                problems.add(Problem(code, message, row.number, columns[role]))
                break
            inputs[role] = value
        else:
            target = _answers(row, columns, inputs["context"])
            if isinstance(target, Problem):
                problems.add(target)
            else:
                examples.append(Example(row.number, inputs, target))
    return examples


def _answers(row: Row, columns: Mapping[str, str], context: str) -> Answers | Problem:
    column = columns["answers"]
    given = row.values.get(column)
    if "answer_start" in columns and isinstance(given, str):
        start = row.values.get(columns["answer_start"])
        given = {"text": given, "answer_start": None if start == "" else start}
    try:
        found = _listed(given)
    except (TypeError, ValueError) as error:
        return Problem("wrong_type", str(error), row.number, column, cut(str(given), SHOWN))
    texts: list[str] = []
    starts: list[int] = []
    notes: set[str] = set()
    for text, start in found:
        place, note = _place(text, start, context)
        if place < 0:
            message = (
                f"the answer {cut(text)!r} does not occur in the context{_near(text, context)}"
            )
            return Problem("answer_not_found", message, row.number, column, cut(text, SHOWN))
        texts.append(text)
        starts.append(place)
        notes |= {note} - {""}
    return Answers(tuple(texts), tuple(starts), min(notes, default=None))


def _near(text: str, context: str) -> str:
    """Return where the context has the answer but for case and spaces."""
    words = r"\s+".join(map(re.escape, text.split()))
    found = re.search(words, context, re.IGNORECASE)
    return f"; it has {cut(found[0])!r} at {found.start()}" if found else ""


def _listed(given: Any) -> list[tuple[str, int | None]]:
    """Return (text, start) of every form that answers come in.

    Raises:
        TypeError, ValueError: of something else, with what is wrong.
    """
    if given is None:
        return []
    if isinstance(given, str):
        items: list[tuple[Any, Any]] = [(given.strip(), None)]
    elif isinstance(given, dict):
        entry = cast("dict[str, Any]", given)
        texts, starts = _many(entry.get("text")), _many(entry.get("answer_start"))
        if not starts:
            starts = [None] * len(texts)
        if texts and len(starts) != len(texts):
            message = f"there are {len(texts)} answers and {len(starts)} places (answer_start)"
            raise ValueError(message)
        items = list(zip(texts, starts, strict=False))
    elif isinstance(given, list):
        items = [_pair(item) for item in cast("list[Any]", given)]
    else:
        message = f"{FORMS}; this is of type {type(given).__name__}"
        raise TypeError(message)
    found: list[tuple[str, int | None]] = []
    for text, start in items:
        if not isinstance(text, str):
            raise TypeError(FORMS)
        if text.strip():
            found.append((text, _start(start)))
    return found


def _many(value: Any) -> list[Any]:
    if isinstance(value, list):
        return cast("list[Any]", value)
    return [] if value is None else [value]


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, dict):
        entry = cast("dict[str, Any]", item)
        start = entry.get("answer_start", entry.get("start"))
        return entry.get("text"), start
    return item, None


def _start(value: Any) -> int | None:
    """Return a place; text formats and tables with gaps have no whole numbers but in other types."""
    if value is None or value == "":
        return None
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except ValueError:
        number = math.nan
    if not number.is_integer():
        message = f"answer_start must be a whole number of characters, not {cut(repr(value))}"
        raise ValueError(message)
    return int(number)


def _place(text: str, start: int | None, context: str) -> tuple[int, str]:
    """Return where the answer is, -1 when nowhere, and what had to be put right."""
    if start is not None and start >= 0 and context.startswith(text, start):
        return start, ""
    places = [at for at in range(len(context)) if context.startswith(text, at)]
    if not places:
        return -1, ""
    if start is None:
        return places[0], "ambiguous" if len(places) > 1 else ""
    return min(places, key=lambda at: abs(at - start)), "moved"


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, stride: int
) -> list[Encoded]:
    """Tokenize each question with its context; a long context becomes several windows.

    A window's target is (first token, last token) of the answer, or twice the first token of all when
    the answer is not in it, as in Devlin et al. 2019 (arXiv 1810.04805), section 4.3.
    """
    if not examples:
        return []
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    limit = room // QUESTION_SHARE
    questions = [_short(tokenizer, example.inputs["question"], limit) for example in examples]
    batch: Any = tokenizer(
        questions,
        [example.inputs["context"] for example in examples],
        truncation="only_second",
        max_length=max_length,
        stride=min(stride, limit // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    types = batch.get("token_type_ids")
    rows: list[Encoded] = []
    for position, owner in enumerate(batch["overflow_to_sample_mapping"]):
        example = examples[owner]
        offsets = [
            tuple(place) if sequence == 1 and place[0] < place[1] else None
            for place, sequence in zip(
                batch["offset_mapping"][position], batch.sequence_ids(position), strict=True
            )
        ]
        rows.append(
            Encoded(
                input_ids=batch["input_ids"][position],
                token_type_ids=None if types is None else types[position],
                target=None if example.target is None else _target(example.target, offsets),
                row=example.row,
                example=owner,
                extra={
                    "offsets": offsets,
                    "context": example.inputs["context"],
                    "answers": example.target,
                    "truncated": questions[owner] != example.inputs["question"],
                },
            )
        )
    return _noted(rows)


def _noted(rows: list[Encoded]) -> list[Encoded]:
    """Note which questions are cut, and in training data which answers are in no window."""
    targets: dict[int, set[Any]] = defaultdict(set)
    for row in rows:
        targets[row.example].add(row.target)
    noted: list[Encoded] = []
    for row in rows:
        is_lost = targets[row.example] == {(0, 0)} and row.extra["answers"].texts
        note = LOST_NOTE if is_lost else CUT_NOTE if row.extra["truncated"] else None
        noted.append(row if note is None else replace(row, extra={**row.extra, "note": note}))
    return noted


def _short(tokenizer: PreTrainedTokenizerBase, question: str, limit: int) -> str:
    """Return a question cut to `limit` tokens; without a limit there would be no room for a context."""
    if len(question) <= limit:  # a token is a character at least
        return question
    batch: Any = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    offsets = batch["offset_mapping"]
    return question if len(offsets) <= limit else question[: offsets[limit - 1][1]]


def _target(answers: Answers, offsets: Sequence[Any]) -> tuple[int, int]:
    """Return the first and last token of the first answer, (0, 0) when it is not all here."""
    if not answers.texts:
        return 0, 0
    start = answers.starts[0]
    end = start + len(answers.texts[0])
    inside = [
        at for at, place in enumerate(offsets)
        if place is not None and place[0] < end and place[1] > start
    ]  # fmt: skip
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < end:
        return 0, 0
    return inside[0], inside[-1]

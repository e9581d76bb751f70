"""From rows to examples to windows of a question with its context. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 80
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
                message = f"the {role} is empty" if not value else f"the {role} must be a string"
                problems.add(Problem("empty_text", message, row.number, columns[role]))
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
        given = {"text": given, "answer_start": row.values.get(columns["answer_start"])}
    found = _listed(given)
    if found is None:
        message = (
            'an answer is a string, {"text": [...], "answer_start": [...]}, or a list of '
            '{"text", "answer_start"}; an empty one says that there is none'
        )
        return Problem("wrong_type", message, row.number, column, _shown(given))
    texts: list[str] = []
    starts: list[int] = []
    notes: set[str] = set()
    for text, start in found:
        place, note = _place(text, start, context)
        if place < 0:
            message = f"the answer {_shown(text)!r} does not occur in the context"
            return Problem("answer_not_found", message, row.number, column, _shown(text))
        texts.append(text)
        starts.append(place)
        notes |= {note} - {""}
    return Answers(tuple(texts), tuple(starts), min(notes, default=None))


def _listed(given: Any) -> list[tuple[str, int | None]] | None:
    """Return (text, start) of every form that answers come in; None of something else."""
    if given is None or given == "":
        return []
    if isinstance(given, str):
        return [(given.strip(), None)]
    if isinstance(given, dict):
        entry = cast("dict[str, Any]", given)
        texts, starts = entry.get("text"), entry.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], None if starts is None else [starts]
        if not isinstance(texts, list):
            return None
        starts = starts if isinstance(starts, list) else [None] * len(cast("list[Any]", texts))
        items = list(zip(cast("list[Any]", texts), cast("list[Any]", starts), strict=False))
    elif isinstance(given, list):
        items = [_pair(item) for item in cast("list[Any]", given)]
    else:
        return None
    found: list[tuple[str, int | None]] = []
    for text, start in items:
        is_place = start is None or (isinstance(start, int) and not isinstance(start, bool))
        if not isinstance(text, str) or not is_place:
            return None
        if text.strip():
            found.append((text, start))
    return found


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, dict):
        entry = cast("dict[str, Any]", item)
        return entry.get("text"), entry.get("answer_start")
    return item, None


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
    batch: Any = tokenizer(
        [
            _short(tokenizer, example.inputs["question"], room // QUESTION_SHARE)
            for example in examples
        ],
        [example.inputs["context"] for example in examples],
        truncation="only_second",
        max_length=max_length,
        stride=min(stride, room // QUESTION_SHARE // 2),
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
                },
            )
        )
    return rows


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


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."

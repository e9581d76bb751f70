"""From rows to examples to token ids with a label each. Torch-free: the tokenizer is handed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np

from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.rows import log_softmax
from app.adapt.task import Example
from app.adapt.tasks.token_classification.words import (
    OUTSIDE,
    Offsets,
    Span,
    cut_at,
    join_words,
    spans_of,
    split_words,
    tag_fault,
    tags_of,
)
from app.kit.counting import cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.task import Scores

IGNORED = -100  # the target of special tokens, and of what another window answers for
SHARED = 4  # neighbouring windows share a quarter of their length
SHOWN = 80
LABEL_KEYS = ("label", "entity_group", "entity", "type", "tag")
TEXT_KEYS = ("text", "word")  # some data says what it marks
PIECE_NOTE = (
    "with spans that begin or end inside of a token: the model learns and finds whole tokens"
)


@dataclass(frozen=True, slots=True)
class Marked:
    """The target of an example: its spans, and what was put right in them.

    `broken` counts tags that went on in what had not begun, or never ended; `doubled` spans given twice.
    """

    spans: tuple[Span, ...]
    broken: int = 0
    doubled: int = 0


def parse(
    rows: Iterable[Row], columns: Mapping[str, str], names: Sequence[str] | None, problems: Problems
) -> list[Example]:
    """Read rows of tokens and tags, or of a text and its spans; what cannot be used is a problem."""
    read = _tagged if "tokens" in columns else _spanned
    found = (read(row, columns, names, problems) for row in rows)
    return [example for example in found if example is not None]


def _tagged(
    row: Row, columns: Mapping[str, str], names: Sequence[str] | None, problems: Problems
) -> Example | None:
    tokens: Any = row.values.get(columns["tokens"])
    tags: Any = row.values.get(columns["tags"])
    fault = _token_fault(tokens)
    if fault is not None:
        problems.add(Problem(*fault, row.number, columns["tokens"], _shown(tokens)))
        return None
    read = _tags(tags, names)
    if isinstance(read, str):
        problems.add(Problem("wrong_type", read, row.number, columns["tags"], _shown(tags)))
        return None
    if len(read) != len(tokens):
        message = f"there are {len(tokens)} tokens and {len(read)} tags; each token has one"
        problems.add(Problem("length_mismatch", message, row.number, columns["tags"]))
        return None
    _, words = join_words(tokens)
    spans, broken = spans_of(read, words)
    return Example(row.number, {"tokens": list(tokens)}, Marked(tuple(spans), broken))


def _token_fault(tokens: Any) -> tuple[str, str] | None:
    if tokens is None or tokens in ([], ""):
        return "empty_text", "there are no tokens"
    if not isinstance(tokens, list):
        return "wrong_type", f"a list of tokens is needed, not {_kind(tokens)}"
    for position, token in enumerate(cast("list[Any]", tokens)):
        if not isinstance(token, str) or not token.strip():
            return "wrong_type", f"token {position} must be a non-empty string"
    return None


def _kind(value: Any) -> str:
    """Name the type of a value; a string where a list should be has a usual cause."""
    if isinstance(value, str):
        return "a string (CSV holds no lists: use JSON lines, Parquet or CoNLL)"
    return type(value).__name__


def _tags(tags: Any, names: Sequence[str] | None) -> list[str] | str:
    """Return tags as strings, or what is wrong with them."""
    if not isinstance(tags, list):
        return f"a list of tags is needed, not {_kind(tags)}"
    read: list[str] = []
    for position, given in enumerate(cast("list[Any]", tags)):
        # Text formats have no numbers but in strings.
        is_digits = isinstance(given, str) and given.isascii() and given.isdecimal()
        tag: Any = int(given) if is_digits and len(given) < 6 else given  # noqa: PLR2004
        if isinstance(tag, int) and not isinstance(tag, bool):
            if names is None:
                return "the tags are numbers; say what they mean with task.tag_names"
            if not 0 <= tag < len(names):
                return f"tag {position} is {tag}, but task.tag_names has {len(names)} names"
            read.append(names[tag])
        elif isinstance(tag, str):
            fault = tag_fault(tag.strip())
            if fault is not None:
                return f"tag {position}: {fault}"
            read.append(tag.strip())
        else:
            return f"tag {position} must be a string such as 'B-PER' or 'O'"
    return read


def _spanned(
    row: Row, columns: Mapping[str, str], names: Sequence[str] | None, problems: Problems
) -> Example | None:
    del names
    text, given = (row.values.get(columns[role]) for role in ("text", "spans"))
    if not isinstance(text, str) or not text.strip():
        is_empty = text is None or isinstance(text, str)
        message = "the text is empty" if is_empty else "the text must be a string"
        code = "empty_text" if is_empty else "wrong_type"
        problems.add(Problem(code, message, row.number, columns["text"]))
        return None
    if not isinstance(given, list):
        message = 'a list of {"start", "end", "label"} is needed; an empty one says that nothing is marked'
        problems.add(Problem("wrong_type", message, row.number, columns["spans"], _shown(given)))
        return None
    spans: list[Span] = []
    for item in cast("list[Any]", given):
        span = _span(item, text)
        if isinstance(span, Problem):
            problems.add(
                Problem(span.code, span.message, row.number, columns["spans"], _shown(item))
            )
            return None
        spans.append(span)
    kept = sorted(set(spans), key=lambda span: (span.start, span.end))
    for first, second in pairwise(kept):
        if second.start < first.end:
            message = (
                f"the spans {first.start}-{first.end} ({first.label}) and {second.start}-{second.end} "
                f"({second.label}) overlap; a character can be in one span only"
            )
            problems.add(Problem("overlapping_spans", message, row.number, columns["spans"]))
            return None
    marked = Marked(tuple(kept), doubled=len(spans) - len(kept))
    return Example(row.number, {"text": text}, marked)


def _span(item: Any, text: str) -> Span | Problem:
    """Read `{"start", "end", "label"}` or `[start, end, label]`."""
    start: Any = None
    end: Any = None
    label: Any = None
    said: Any = None
    if isinstance(item, dict):
        entry = cast("dict[str, Any]", item)
        start, end = entry.get("start"), entry.get("end")
        label = next((entry[key] for key in LABEL_KEYS if entry.get(key)), None)
        said = next((entry[key] for key in TEXT_KEYS if entry.get(key)), None)
    elif isinstance(item, list) and len(cast("list[Any]", item)) == 3:  # noqa: PLR2004
        start, end, label = cast("list[Any]", item)
    if not isinstance(label, str) or not label.strip():
        message = (
            'a span is {"start": 0, "end": 5, "label": "PER"}; this one has no label that is a text'
        )
        return Problem("wrong_type", message)
    if not _is_index(start) or not _is_index(end):
        message = (
            f"start and end of a span are whole numbers of characters, not {start!r} and {end!r}"
        )
        return Problem("wrong_type", message[: 2 * SHOWN])
    fault = _place_fault(start, end, text, said)
    if fault is not None:
        return fault
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start == end:
        return Problem("empty_span", "the span covers spaces only")
    return Span(start, end, label.strip())


def _place_fault(start: int, end: int, text: str, said: Any) -> Problem | None:
    """Say what is wrong with a place; `said` is the text that the data has for it, if any."""
    if start == end:
        return Problem(
            "empty_span", f"the span {start}-{end} is empty; its end is not part of a span"
        )
    if start > end:
        return Problem("reversed_span", f"the span {start}-{end} ends before it begins")
    if start < 0 or end > len(text):
        message = f"the span {start}-{end} is outside of the text, which has {len(text)} characters"
        if 0 <= start < end <= len(text.encode()):
            message += "; are these bytes? Characters are counted"
        return Problem("span_outside_text", message)
    found = text[start:end]
    if not isinstance(said, str) or found.strip() == said.strip():
        return None
    at = min(
        (m for m in range(len(text)) if text.startswith(said, m)),
        key=lambda m: abs(m - start),
        default=-1,
    )
    where = f"; that is at {at}-{at + len(said)} (the end is not part of a span)" if at >= 0 else ""
    message = f"the text at {start}-{end} is {cut(found)!r}, not {cut(said)!r}{where}"
    return Problem("span_text_differs", message)


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def text_and_words(inputs: Mapping[str, Any]) -> tuple[str, list[Offsets]]:
    """Return the text of an example's inputs and where its words are."""
    if "tokens" in inputs:
        return join_words(inputs["tokens"])
    return inputs["text"], split_words(inputs["text"])


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int,
    labels: Sequence[str], stride: int | None = None,
) -> list[Encoded]:  # fmt: skip
    """Tokenize; a text that is longer than the model reads becomes several windows.

    Windows overlap by `stride` tokens (None: a quarter of one; half of one at most), and each answers
    for its own part only: what lies in two of them belongs to the one where it is farther from the edge.
    So every piece of a text has one answer, made with context.
    """
    if not examples:
        return []
    read = [text_and_words(example.inputs) for example in examples]
    room = max_length - tokenizer.num_special_tokens_to_add()
    stride = room // SHARED if stride is None else min(stride, room // 2)
    batch = _windows(tokenizer, [text for text, _ in read], max_length, stride)
    index = {label: position for position, label in enumerate(labels)}
    owners: list[int] = batch["overflow_to_sample_mapping"]
    whole = [_whole(example, *parts) for example, parts in zip(examples, read, strict=True)]
    rows: list[Encoded] = []
    for position, owner in enumerate(owners):
        offsets = batch["offset_mapping"][position]
        content = [
            at for at, hidden in enumerate(batch["special_tokens_mask"][position]) if not hidden
        ]
        is_first = position == 0 or owners[position - 1] != owner
        is_last = position + 1 == len(owners) or owners[position + 1] != owner
        own = _own(content, stride, is_first=is_first, is_last=is_last)
        own = [at for at in own if offsets[at][0] < offsets[at][1]]
        example = examples[owner]
        types = batch.get("token_type_ids")
        rows.append(
            Encoded(
                input_ids=batch["input_ids"][position],
                token_type_ids=None if types is None else types[position],
                target=None
                if example.target is None
                else _target(example.target, offsets, own, index),
                row=example.row,
                example=owner,
                units=len(own),
                extra=whole[owner] | _part(example, whole[owner]["text"], offsets, own),
            )
        )
    return rows


def _part(
    example: Example, text: str, offsets: Sequence[Offsets], own: Sequence[int]
) -> dict[str, Any]:
    """Return what a window knows of what it answers for."""
    places = [(offsets[at][0], offsets[at][1]) for at in own]
    note = None if example.target is None else piece_note(text, example.target, places)
    return {"offsets": places, "pieces": own, "note": note}


def _windows(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int, stride: int
) -> Any:
    return tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )


def _own(content: Sequence[int], stride: int, *, is_first: bool, is_last: bool) -> Sequence[int]:
    """Return what a window answers for: of what it shares with each neighbour, the nearer half."""
    first = 0 if is_first else stride // 2
    last = len(content) if is_last else len(content) - (stride - stride // 2)
    return content[first:last]


def _whole(example: Example, text: str, words: list[Offsets]) -> dict[str, Any]:
    """Return what all windows of a text know of it: its words, cut where spans are, and their tags."""
    if example.target is None:
        return {"text": text, "words": words}
    spans = cast("Marked", example.target).spans
    words = cut_at(words, spans)
    return {"text": text, "words": words, "tags": tags_of(words, spans)}


def _target(
    marked: Marked, offsets: Sequence[Offsets], own: Sequence[int], index: Mapping[str, int]
) -> list[int]:
    target = [IGNORED] * len(offsets)
    for at, tag in zip(own, tags_of([offsets[at] for at in own], marked.spans), strict=True):
        target[at] = index.get(tag, index[OUTSIDE])
    return target


def piece_note(text: str, marked: Marked, pieces: Sequence[Offsets]) -> str | None:
    """Say whether a span begins or ends inside of a piece."""
    edges = {edge for span in marked.spans for edge in (span.start, span.end)}
    for piece in pieces:
        edges.difference_update(piece)
    for start, end in pieces if edges else ():
        while start < end and text[start].isspace():  # some tokenizers count a space in
            start += 1  # noqa: PLW2901
        if any(start < edge < end for edge in edges):
            return PIECE_NOTE
    return None


def row_loss(scores_TC: Scores, encoded: Encoded) -> float:
    """Return -1/P sum_t log softmax(z_t)[y_t] over the P pieces that the row answers for, 0 of none."""
    places = np.array([at for at, tag in enumerate(encoded.target) if tag != IGNORED], dtype=int)
    if not places.size:
        return 0.0
    tags = np.array(encoded.target)[places]
    return -float(log_softmax(scores_TC[places])[np.arange(len(places)), tags].mean())


def target_of(scores_TC: Scores, encoded: Encoded) -> list[int]:
    """Return the index of each piece's likeliest tag, -100 where the row does not answer."""
    target = [IGNORED] * len(encoded.input_ids)
    best_T = scores_TC.argmax(axis=-1)
    for at in encoded.extra["pieces"]:
        target[at] = int(best_T[at])
    return target


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."

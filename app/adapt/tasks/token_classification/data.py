"""From rows to examples to token ids with a label each. Torch-free: the tokenizer is handed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from app.adapt.outputs import Encoded
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import Example
from app.adapt.tasks.token_classification.words import (
    OUTSIDE,
    Offsets,
    Span,
    cut_at,
    join_words,
    spans_of,
    split_words,
    tags_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the target of special tokens, and of what another window answers for
SHARED = 4  # neighbouring windows share a quarter of their length
SHOWN = 80
LABEL_KEYS = ("label", "entity_group", "entity", "type", "tag")


@dataclass(frozen=True, slots=True)
class Marked:
    """The target of an example: its spans, and how many tags began what had not begun."""

    spans: tuple[Span, ...]
    broken: int = 0


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
    if not isinstance(tokens, list) or not tokens:
        return "empty_text", "a list of tokens is needed"
    for position, token in enumerate(cast("list[Any]", tokens)):
        if not isinstance(token, str) or not token.strip():
            return "wrong_type", f"token {position} must be a non-empty string"
    return None


def _tags(tags: Any, names: Sequence[str] | None) -> list[str] | str:
    """Return tags as strings, or what is wrong with them."""
    if not isinstance(tags, list):
        return "a list of tags is needed"
    read: list[str] = []
    for position, tag in enumerate(cast("list[Any]", tags)):
        if isinstance(tag, int) and not isinstance(tag, bool):
            if names is None:
                return "the tags are numbers; say what they mean with task.tag_names"
            if not 0 <= tag < len(names):
                return f"tag {position} is {tag}, but task.tag_names has {len(names)} names"
            read.append(names[tag])
        elif isinstance(tag, str):
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
        message = "the text is empty" if not text else "the text must be a string"
        problems.add(Problem("empty_text", message, row.number, columns["text"]))
        return None
    if not isinstance(given, list):
        message = 'a list of {"start", "end", "label"} is needed; an empty one marks nothing'
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
    spans.sort(key=lambda span: (span.start, span.end))
    for first, second in pairwise(spans):
        if second.start < first.end:
            message = (
                f"the spans {first.start}-{first.end} and {second.start}-{second.end} overlap; "
                "a character can be in one span only"
            )
            problems.add(Problem("overlapping_spans", message, row.number, columns["spans"]))
            return None
    return Example(row.number, {"text": text}, Marked(tuple(spans)))


def _span(item: Any, text: str) -> Span | Problem:
    """Read `{"start", "end", "label"}` or `[start, end, label]`."""
    start: Any = None
    end: Any = None
    label: Any = None
    if isinstance(item, dict):
        entry = cast("dict[str, Any]", item)
        start, end = entry.get("start"), entry.get("end")
        label = next((entry[key] for key in LABEL_KEYS if entry.get(key)), None)
    elif isinstance(item, list) and len(cast("list[Any]", item)) == 3:  # noqa: PLR2004
        start, end, label = cast("list[Any]", item)
    if not isinstance(label, str) or not label.strip():
        return Problem("wrong_type", 'a span is {"start": 0, "end": 5, "label": "PER"}')
    if not _is_index(start) or not _is_index(end):
        return Problem("wrong_type", "start and end of a span are whole numbers of characters")
    if not 0 <= start < end <= len(text):
        message = f"the span {start}-{end} is outside of the text, which has {len(text)} characters"
        return Problem("span_outside_text", message)
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start == end:
        return Problem("empty_span", "the span covers spaces only")
    return Span(start, end, label.strip())


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def text_and_words(inputs: Mapping[str, Any]) -> tuple[str, list[Offsets]]:
    """Return the text of an example's inputs and where its words are."""
    if "tokens" in inputs:
        return join_words(inputs["tokens"])
    return inputs["text"], split_words(inputs["text"])


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int,
    labels: Sequence[str],
) -> list[Encoded]:  # fmt: skip
    """Tokenize; a text that is longer than the model reads becomes several windows.

    Windows overlap, and each answers for its own part only: what lies in two of them belongs to the
    one where it is farther from the edge. So every piece of a text has one answer, made with context.
    """
    if not examples:
        return []
    read = [text_and_words(example.inputs) for example in examples]
    special = tokenizer.num_special_tokens_to_add()
    stride = (max_length - special) // SHARED
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
                extra=whole[owner] | {"offsets": [tuple(offsets[at]) for at in own], "pieces": own},
            )
        )
    return rows


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


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."

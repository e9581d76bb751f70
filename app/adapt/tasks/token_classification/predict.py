"""From a predict request's input to an example, and from scores to spans, as the Hub's pipelines do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field

from app.adapt.task import Example, Parameters
from app.adapt.tasks.token_classification.words import OUTSIDE, Offsets, split_tag
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

DIGITS = 6


class SpanParameters(Parameters):
    """Options of a predict call, named as the Hub's pipelines name them."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = Field(
        default="first",
        description="none: each piece; simple: neighbouring pieces of one label; first, average, max: "
        "whole words, labelled by their first piece, the mean of all, or the surest.",
    )
    ignore_labels: list[str] = Field(
        default=[OUTSIDE], max_length=1_000, description="Labels, or tags, that are left out."
    )
    stride: int | None = Field(
        default=None, ge=0, le=4096,
        description="How many tokens the windows of a long text share, half of one at most; null: as "
        "trained.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answered:
    """What one window says about its part of a text: a probability (C,) of each label for each piece."""

    text: str
    words: list[Offsets]
    pieces: list[Offsets]
    probabilities_PC: NDArray[np.float32]


def parse_input(value: Any, index: int) -> Example:
    """Take a text, a list of tokens, `{"text": ...}` or `{"tokens": [...]}`."""
    where = f"inputs.{index}"
    if isinstance(value, dict):
        entry = cast("dict[str, Any]", value)
        if set(entry) not in ({"text"}, {"tokens"}):
            message = f'{where}: send a text, or {{"text": ...}}, or {{"tokens": [...]}}'
            raise InvalidRequest(message, param=where)
        value = next(iter(entry.values()))
    if isinstance(value, str) and value.strip():
        return Example(row=index, inputs={"text": value})
    if isinstance(value, list) and value:
        tokens = cast("list[Any]", value)
        if all(isinstance(token, str) and token.strip() for token in tokens):
            return Example(row=index, inputs={"tokens": list(tokens)})
    message = f"{where}: a non-empty text or list of tokens is needed"
    raise InvalidRequest(message, param=where)


def decode(scores: Scores, encoded: Encoded) -> Answered:
    """Turn the logits (T, C) of a window into what it says about its own pieces."""
    own = scores[encoded.extra["pieces"]]
    shifted = np.exp(own - own.max(axis=-1, keepdims=True))
    extra = encoded.extra
    return Answered(
        extra["text"],
        extra["words"],
        extra["offsets"],
        shifted / shifted.sum(axis=-1, keepdims=True),
    )


def merge(answers: Sequence[Answered], labels: Sequence[str], parameters: SpanParameters) -> Any:
    """Return the spans of a text from its windows, which follow each other."""
    text, words = answers[0].text, answers[0].words
    pieces = [piece for answer in answers for piece in answer.pieces]
    probabilities = np.concatenate([answer.probabilities_PC for answer in answers])
    strategy = parameters.aggregation_strategy
    if strategy in {"first", "average", "max"}:
        pieces, probabilities = _by_word(pieces, probabilities, words, strategy)
    tagged = [
        (piece, labels[int(row.argmax())], float(row.max()))
        for piece, row in zip(pieces, probabilities, strict=True)
    ]
    if strategy == "none":
        return [
            {"entity": tag, "score": round(score, DIGITS), "index": at, "word": text[start:end],
             "start": start, "end": end}
            for at, ((start, end), tag, score) in enumerate(tagged)
            if not {tag, split_tag(tag)[1]} & set(parameters.ignore_labels)
        ]  # fmt: skip
    return _grouped(text, tagged, set(parameters.ignore_labels))


def _by_word(
    pieces: Sequence[Offsets], probabilities_PC: NDArray[np.float32], words: Sequence[Offsets],
    strategy: str,
) -> tuple[list[Offsets], NDArray[np.float32]]:  # fmt: skip
    """Return a row for each word: of its first piece, its surest, or the mean of all of its pieces."""
    places: list[Offsets] = []
    rows: list[Any] = []
    at = 0
    for start, end in words:
        while at < len(pieces) and pieces[at][1] <= start:
            at += 1
        last = at
        while last < len(pieces) and pieces[last][0] < end:
            last += 1
        if last == at:
            continue  # the tokenizer leaves it out
        members = probabilities_PC[at:last]
        places.append((start, end))
        if strategy == "first":
            rows.append(members[0])
        elif strategy == "max":
            rows.append(members[int(members.max(axis=-1).argmax())])
        else:
            rows.append(members.mean(axis=0))
    width = probabilities_PC.shape[-1]
    return places, np.array(rows, dtype=np.float32).reshape(len(rows), width)


def _grouped(
    text: str, tagged: Sequence[tuple[Offsets, str, float]], ignored: set[str]
) -> list[dict[str, Any]]:
    """Join neighbours of one label; B- begins anew. The score is the mean of the members'."""
    groups: list[tuple[str, list[tuple[Offsets, float]]]] = []
    for place, tag, score in tagged:
        prefix, label = split_tag(tag)
        if groups and groups[-1][0] == label and (prefix != "B" or not label):
            groups[-1][1].append((place, score))
        else:
            groups.append((label, [(place, score)]))
    spans: list[dict[str, Any]] = []
    for label, members in groups:
        name = label or OUTSIDE
        if name in ignored:
            continue
        start, end = members[0][0][0], members[-1][0][1]
        while start < end and text[start].isspace():  # some tokenizers count a space in
            start += 1
        mean = sum(score for _, score in members) / len(members)
        spans.append({"entity_group": name, "score": round(mean, DIGITS), "word": text[start:end],
                      "start": start, "end": end})  # fmt: skip
    return spans

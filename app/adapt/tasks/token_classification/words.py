"""Words of a raw text and what is marked in them, as character offsets. Torch-free.

Whatever form data comes in, inside this task it is a text with its words and its spans.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.adapt.scripts import UNSPACED

WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")
IS_UNSPACED = re.compile(rf"[{UNSPACED}]")
OUTSIDE = "O"
PREFIXES = {"B", "I", "O", "E", "S", "L", "U", "M"}

Offsets = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """A marked stretch of a text, from `start` up to but not including `end`, in characters."""

    start: int
    end: int
    label: str


def split_words(text: str) -> list[Offsets]:
    """Return where the words of a raw text are: runs of letters and digits, other signs one by one."""
    return [found.span() for found in WORD.finditer(text)]


def join_words(words: Sequence[str]) -> tuple[str, list[Offsets]]:
    """Return the text of given words, with spaces where their script writes them, and where they lie."""
    text = ""
    offsets: list[Offsets] = []
    for word in words:
        if text and not (IS_UNSPACED.match(word) and IS_UNSPACED.match(text[-1])):
            text += " "
        offsets.append((len(text), len(text) + len(word)))
        text += word
    return text, offsets


def cut_at(words: Iterable[Offsets], spans: Sequence[Span]) -> list[Offsets]:
    """Return the words, cut where a span begins or ends inside of one."""
    edges = sorted({edge for span in spans for edge in (span.start, span.end)})
    parts: list[Offsets] = []
    for start, end in words:
        inside = [edge for edge in edges if start < edge < end]
        parts += zip([start, *inside], [*inside, end], strict=True)
    return parts


def tags_of(words: Sequence[Offsets], spans: Sequence[Span]) -> list[str]:
    """Return the IOB2 tag of each word (or piece of one): B- begins a span, I- goes on in it."""
    tags: list[str] = []
    ordered = sorted(spans, key=lambda span: span.start)
    at = 0
    for start, end in words:
        while at < len(ordered) and ordered[at].end <= start:
            at += 1
        if at == len(ordered) or ordered[at].start >= end:
            tags.append(OUTSIDE)
        else:
            tags.append(("B-" if start <= ordered[at].start else "I-") + ordered[at].label)
    return tags


def spans_of(tags: Sequence[str], words: Sequence[Offsets]) -> tuple[list[Span], int]:
    """Return the spans that tags say, and how many of them begin without a beginning or never end.

    Reads IOB2, IOB1, BIOES (and its other name, BILOU) and tags without prefixes. A tag that goes on
    in what has not begun begins it, as in the CoNLL evaluation script (Sang & Buchholz 2000); where
    ends are tagged, a span without one ends before the next tag.
    """
    spans: list[Span] = []
    broken = unfinished = 0
    tags_ends = False
    start, last, label = 0, 0, ""  # the open span, none while `label` is empty
    for (word_start, word_end), tag in zip(words, tags, strict=True):
        prefix, name = split_tag(tag)
        if label and (prefix in {"B", "S", "U"} or name != label):
            spans.append(Span(start, last, label))
            unfinished += 1
            label = ""
        if name and not label:
            start, label = word_start, name
            broken += prefix in {"I", "E", "L", "M"}
        last = word_end
        if prefix in {"E", "S", "L", "U"}:
            tags_ends = True
            if label:
                spans.append(Span(start, last, label))
                label = ""
    if label:
        spans.append(Span(start, last, label))
        unfinished += 1
    return spans, broken + (unfinished if tags_ends else 0)


def split_tag(tag: str) -> tuple[str, str]:
    """Return a tag's prefix and its label; ("", "") is outside of all spans."""
    if tag in {OUTSIDE, OUTSIDE.lower(), "", "_"}:
        return "", ""
    prefix, separator, name = tag.partition("-")
    if separator and prefix.upper() in PREFIXES and name:
        return prefix.upper(), name
    return "", tag


def tag_fault(tag: str) -> str | None:
    """Say what is wrong with a tag by itself: it is empty, or a prefix without a label."""
    if not tag:
        return "it is empty; O is outside of all spans"
    prefix, separator, name = tag.partition("-")
    if separator and not name and prefix.upper() in PREFIXES:
        return f"{tag!r} names no label; write {prefix}-PER, for example"
    return None


def other_scheme(labels: Iterable[str]) -> tuple[str, str] | None:
    """Return two labels that are tags of a scheme that is not ours, such as PER-B and PER-I."""
    known = set(labels)
    for mark in "-_ ":
        for label in sorted(known):
            ending, beginning = label.removesuffix(f"{mark}B"), label.removeprefix(f"B{mark}")
            if ending != label and f"{ending}{mark}I" in known:
                return label, f"{ending}{mark}I"
            if beginning != label and f"I{mark}{beginning}" in known:
                return label, f"I{mark}{beginning}"
    return None

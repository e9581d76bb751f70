"""Texts without labels, read one at a time: a corpus may be larger than memory. Torch-free.

A corpus is read twice or three times from its files: to check and count it, to learn a vocabulary where one
is asked for, and to turn it into tokens. Nothing of it is kept. Which documents are held out is a property
of their text alone, so that equal ones are on the same side, and each pass comes to the same answer.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from app.adapt.columns import Role, match_columns
from app.adapt.dataset import (
    MAX_VALIDATION,
    MIN_VALIDATION,
    VALIDATION_SHARE,
    SplitRule,
    reader_for,
)
from app.adapt.reader import Problem, Problems, Row
from app.errors import InvalidData

ROLE = Role(
    "text", ("content", "sentence", "document", "body", "abstract"), description="Any text."
)
MAX_DOCUMENT = 1_000_000  # characters; lines that no blank one ends are cut there
SAMPLE_CHARACTERS = (
    20_000_000  # that a vocabulary is learned from: a choice, of minutes and not hours
)
ALL = 2**64
BEAT_DOCUMENTS = 1_000

Beat = Callable[[], None]


class CorpusRules(Protocol):
    """What a job says about its corpus; `app.spec.pretrain.Corpus` does. Specs lie above this layer."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Role to column."""
        ...

    @property
    def documents(self) -> Literal["rows", "paragraphs"]:
        """What a document is."""
        ...

    @property
    def split(self) -> SplitRule:
        """The rule that holds without a validation file."""
        ...

    @property
    def on_bad_rows(self) -> Literal["fail", "skip"]:
        """What happens to rows that cannot be used."""
        ...


@dataclass(frozen=True)
class CorpusFile:
    """A file of the corpus, and the field that names it."""

    path: Path
    filename: str
    param: str


@dataclass
class Scan:
    """What a corpus, or a set of it, comes to. `problems` are by file."""

    rows: int = 0
    documents: int = 0
    characters: int = 0
    problems: list[Problems] = field(default_factory=list)
    column: str | None = None  # that the texts are in, of the last file

    def to_dict(self) -> dict[str, Any]:
        """Return the section of a data report."""
        bad = [found for found in self.problems if found]
        described: dict[str, Any] = {
            "rows": self.rows + sum(map(len, bad)),
            "usable": self.rows,
            "warnings": [_told(found) for found in bad],
            "statistics": {"documents": self.documents, "characters": self.characters},
        }
        if bad:
            described["problems"] = [found.to_dict() | {"file": found.filename} for found in bad]
        return described


class Reading:
    """The documents of some files, one after the other, as often as they are asked for."""

    def __init__(self, files: Sequence[CorpusFile], rules: CorpusRules) -> None:
        self.files = files
        self.rules = rules

    def __iter__(self) -> Iterator[str]:
        """Yield each document."""
        yield from self.scanned(Scan())

    def scanned(self, scan: Scan) -> Iterator[str]:
        """Yield each document, and count into `scan`.

        Raises:
            InvalidData: a file cannot be read, has no texts, or has rows that cannot be used and are not to
                be skipped; `param` is the field that names it.
        """
        for file in self.files:
            problems = Problems(file.filename)
            scan.problems.append(problems)
            before = scan.documents
            try:
                for text in self._documents(self._rows(file, problems, scan)):
                    scan.documents += 1
                    scan.characters += len(text)
                    yield text
            except InvalidData as error:
                if error.param == "file":
                    error.param = file.param
                raise
            if self.rules.on_bad_rows == "fail":
                problems.raise_if_any(param=file.param)
            if scan.documents == before:
                raise _nothing_usable(problems, file.param)

    def _rows(self, file: CorpusFile, problems: Problems, scan: Scan) -> Iterator[Row]:
        column: str | None = None
        for row in reader_for(file.filename, file.path).read(file.path, problems):
            if column is None:
                column = text_column(list(row.values), self.rules.columns, file.filename)
                scan.column = column
            text = row.values.get(column)
            if isinstance(text, str) and text.strip():
                scan.rows += 1
                yield Row(row.number, {"text": text})
            else:
                is_empty = text is None or isinstance(text, str)
                message = "the text is empty" if is_empty else "the text must be a string"
                code = "empty_text" if is_empty else "wrong_type"
                problems.add(Problem(code, message, row.number, column))

    def _documents(self, rows: Iterable[Row]) -> Iterator[str]:
        if self.rules.documents == "rows":
            yield from (str(row.values["text"]) for row in rows)
            return
        lines: list[str] = []
        size = last = 0
        for row in rows:
            text = str(row.values["text"])
            if lines and (row.number != last + 1 or size + len(text) > MAX_DOCUMENT):
                yield "\n".join(lines)
                lines, size = [], 0
            lines.append(text)
            size, last = size + len(text), row.number
        if lines:
            yield "\n".join(lines)


@dataclass(frozen=True)
class HoldOut:
    """Which documents are held out: those whose place, drawn from the text, is below `below`."""

    seed: int
    below: int

    def takes(self, text: str) -> bool:
        """Say whether a document is held out."""
        return place(text, self.seed) < self.below


def text_column(found: Sequence[str], given: Mapping[str, str], filename: str) -> str:
    """Return the column that texts are in.

    Raises:
        InvalidData: there is none.
    """
    return match_columns("pretrain", [ROLE], found, given, filename)["text"]


def place(text: str, seed: int) -> int:
    """Return a number in [0, 2^64) that is drawn from the text and the seed alone."""
    key = seed.to_bytes(8, "little")
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=key).digest()
    )


def scan_corpus(
    reading: Reading, split: SplitRule | None, beat: Beat = lambda: None
) -> tuple[Scan, HoldOut]:
    """Read all of a corpus; return what it comes to, and which documents are held out as `split` says.

    Memory holds the places of at most as many documents as `auto` holds out. Without `split`, none is.

    Raises:
        InvalidData: as `Reading.scanned`; or there are too few different documents to hold one out.
    """
    scan, seed = Scan(), 0 if split is None else split.seed
    lowest: list[int] = []  # negated, so that the greatest is the first to go
    kept: set[int] = set()
    for text in reading.scanned(scan):
        if scan.documents % BEAT_DOCUMENTS == 0:
            beat()
        if split is None:
            continue
        found = place(text, seed)
        if found in kept:
            continue
        if len(lowest) <= MAX_VALIDATION:
            heapq.heappush(lowest, -found)
            kept.add(found)
        elif found < -lowest[0]:
            kept.add(found)
            kept.discard(-heapq.heappushpop(lowest, -found))
    if split is None:
        return scan, HoldOut(seed, 0)
    return scan, HoldOut(seed, _below(sorted(kept), scan.documents, split, reading))


def sample(
    reading: Reading, characters: int, held_out: HoldOut, beat: Beat = lambda: None
) -> Iterable[str]:
    """Return the documents that a vocabulary is learned from, of a corpus of so many characters.

    None that is held out; of a large corpus so many, evenly spread, that they come to about 20 million
    characters. They can be iterated over more than once.
    """
    below = min(ALL, int(ALL * (SAMPLE_CHARACTERS / max(1, characters))))
    return _Sample(reading, HoldOut(held_out.seed + 1, below), held_out, beat)


@dataclass(frozen=True)
class _Sample:
    reading: Reading
    taken: HoldOut
    held_out: HoldOut
    beat: Beat

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self.reading):
            if number % BEAT_DOCUMENTS == 0:
                self.beat()
            if self.taken.takes(text) and not self.held_out.takes(text):
                yield text


def _below(places: Sequence[int], count: int, split: SplitRule, reading: Reading) -> int:
    """Return the bound under which about as many documents lie as are to be held out."""
    if len(places) < 2:  # noqa: PLR2004 - one to learn from, one to judge by
        what = "there is only one document" if count == 1 else f"all {count} documents are the same"
        message = f"{what}: none can be held out; add texts, or name data.validation"
        raise InvalidData(message, param=reading.files[0].param, code="cannot_split")
    share = split.validation
    if share == "auto":
        wanted = min(MAX_VALIDATION, max(MIN_VALIDATION, round(count * VALIDATION_SHARE)))
    else:
        wanted = max(1, round(count * share))
    if len(places) <= MAX_VALIDATION:  # these are all
        return places[min(wanted, len(places) // 2)]
    # Where more are wanted than were kept, places lie evenly on the line.
    return places[wanted] if wanted < len(places) else ALL * wanted // count


def _nothing_usable(problems: Problems, param: str) -> InvalidData:
    message = f"{problems.filename} has no usable text"
    details: dict[str, Any] = {"file": problems.filename}
    if problems:
        message += f": {_told(problems)}"
        details["problems"] = problems.to_dict()
    return InvalidData(message, param=param, code="no_usable_rows", details=details)


def _told(problems: Problems) -> str:
    first = problems.first[0]
    codes = ", ".join(f"{count} {code}" for code, count in problems.counts.items())
    return f"{problems.filename}: skipped: {codes}; row {first.row}: {first.message}"

"""The reader contract: a file becomes numbered rows; what is wrong with a row is said, never guessed.

A reader knows a format and nothing about tasks. It is lazy and holds one row at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from app.errors import InvalidData
from app.kit.registry import Plugin
from app.kit.schema import and_more


@dataclass(frozen=True, slots=True)
class Row:
    """One record; `number` is the 1-based line (text formats) or row (tables) people will look up."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one row: where, what, and what would be right."""

    code: str
    message: str
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set."""
        pairs = (
            ("row", self.row),
            ("column", self.column),
            ("code", self.code),
            ("message", self.message),
            ("value", self.value),
        )
        return {name: value for name, value in pairs if value is not None}


@dataclass
class Problems:
    """Everything found wrong in one file: the first `keep` in full, all of them counted by code."""

    filename: str
    keep: int = 100
    first: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, problem: Problem) -> None:
        """Note one problem."""
        self.counts[problem.code] += 1
        if len(self.first) < self.keep:
            self.first.append(problem)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return `{"count", "by_code", "first"}`."""
        return {
            "count": len(self),
            "by_code": dict(self.counts),
            "first": [problem.to_dict() for problem in self.first],
        }

    def merge(self, other: Problems) -> None:
        """Note every problem of another."""
        self.counts += other.counts
        self.first += other.first[: self.keep - len(self.first)]

    def raise_if_any(self, *, param: str = "file") -> None:
        """Raise `InvalidData` that shows the first problem and counts the rest."""
        if self.counts:
            raise self.error(param=param)

    def error(self, *, param: str = "file") -> InvalidData:
        """Return the error that shows the first problem, of which there is one, and counts the rest."""
        first = self.first[0]
        where = f"{self.filename}" + (f", row {first.row}" if first.row is not None else "")
        where += f", column {first.column!r}" if first.column else ""
        details = {"file": self.filename, **first.to_dict(), "problems": self.to_dict()}
        return InvalidData(
            f"{where}: {first.message}{and_more(len(self))}",
            param=param,
            code=first.code,
            details=details,
        )


class Reader(Plugin, ABC):
    """A file format. Subclass it in one file under `readers/` and it exists everywhere."""

    extensions: ClassVar[tuple[str, ...]]
    media_types: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Say whether a file that begins like this is of the format; asked when several take its name."""
        del start
        return True

    @abstractmethod
    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield the file's good rows in order; add each bad one to `problems` and go on.

        Raises:
            InvalidData: the file as a whole is not of this format (wrong encoding, cut off, empty).
        """

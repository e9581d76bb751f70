"""What an uploaded file holds, in one pass and bounded memory: rows, columns, values, problems."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.adapt.dataset import reader_for
from app.adapt.reader import Problems, Row
from app.errors import InvalidData

MAX_DISTINCT = 1_000
MAX_COLUMNS = 1_000
MAX_VALUE_CHARACTERS = 200
TOP = 50
PREVIEW_ROWS = 3
INTEGER = re.compile(r"[+-]?\d{1,18}")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Column:
    """Counts of one column while it streams by; memory is bounded by distinct lengths and values."""

    def __init__(self) -> None:
        self.filled = 0
        self.kinds: set[str] = set()
        self.values: Counter[str] | None = Counter()
        self.lengths: Counter[int] = Counter()

    def add(self, value: Any) -> None:
        """Take one value."""
        if value is None or value == "":
            return
        self.filled += 1
        # One text makes the column text: no need to look at every later one.
        if not (isinstance(value, str) and "text" in self.kinds):
            self.kinds.add(_kind(value))
        if isinstance(value, str):
            self.lengths[len(value)] += 1
        if self.values is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            self.values[text[:MAX_VALUE_CHARACTERS]] += 1
            if len(self.values) > MAX_DISTINCT:
                self.values = None

    def to_dict(self, name: str, rows: int) -> dict[str, Any]:
        """Return the column's summary; `distinct` is null past a thousand values."""
        top = [] if self.values is None else self.values.most_common(TOP)
        return {
            "name": name,
            "kind": self.kind(),
            "filled": self.filled,
            "empty": rows - self.filled,
            "distinct": None if self.values is None else len(self.values),
            "top": [{"value": value, "count": count} for value, count in top],
            "length": _lengths(self.lengths) if self.lengths else None,
        }

    def kind(self) -> str:
        """Return the kind that all values share; digits in quotes are numbers, as CSV has no types."""
        if self.kinds == {"integer", "number"}:
            return "number"
        if self.lengths.total() == self.filled and "text" in self.kinds:
            return "text"
        return next(iter(self.kinds)) if len(self.kinds) == 1 else "mixed"


def _kind(value: Any) -> str:
    if isinstance(value, str):
        if INTEGER.fullmatch(value):
            return "integer"
        return "number" if NUMBER.fullmatch(value) else "text"
    kinds = {bool: "boolean", int: "integer", float: "number", list: "list"}
    return kinds.get(type(value), "mixed")


def _lengths(counts: Counter[int]) -> dict[str, float]:
    """Return exact figures of lengths in characters."""
    ordered = sorted(counts.items())
    total = counts.total()

    def at(share: float) -> int:
        wanted = share * total
        for length, count in ordered:
            wanted -= count
            if wanted < 0:
                return length
        return ordered[-1][0]

    return {
        "min": ordered[0][0],
        "mean": round(sum(length * count for length, count in ordered) / total, 1),
        "p50": at(0.5),
        "p95": at(0.95),
        "max": ordered[-1][0],
    }


def summarize(path: Path, filename: str, *, max_rows: int) -> dict[str, Any]:
    """Return the file's summary; rows that cannot be read are problems, not errors.

    Raises:
        InvalidData: the file as a whole is unusable, has no usable row, or too many.
    """
    problems = Problems(filename)
    reader = reader_for(filename, path)
    columns: dict[str, Column] = {}
    preview: list[dict[str, Any]] = []
    rows = 0
    for row in _limited(reader.read(path, problems), filename, max_rows):
        rows += 1
        if len(preview) < PREVIEW_ROWS:
            preview.append({name: _short(value) for name, value in row.values.items()})
        for name, value in row.values.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = Column()
            column.add(value)
        if len(columns) > MAX_COLUMNS:
            message = f"{filename}, row {row.number}: more than {MAX_COLUMNS} different columns"
            details = {"file": filename, "row": row.number}
            raise InvalidData(message, param="file", code="too_many_columns", details=details)
    if rows == 0:
        problems.raise_if_any()
        message = f"{filename} has no rows"
        raise InvalidData(message, param="file", code="empty_file", details={"file": filename})
    return {
        "format": reader.name(),
        "rows": rows,
        "columns": [column.to_dict(name, rows) for name, column in columns.items()],
        "problems": problems.to_dict(),
        "preview": preview,
    }


def _limited(rows: Iterator[Row], filename: str, max_rows: int) -> Iterator[Row]:
    for count, row in enumerate(rows, start=1):
        if count > max_rows:
            message = f"{filename} has more than {max_rows} rows, the limit"
            raise InvalidData(
                message, param="file", code="too_many_rows", details={"file": filename}
            )
        yield row


def _short(value: Any) -> Any:
    """Cut what is long; short lists and objects stay as they are."""
    if isinstance(value, str):
        return value[:MAX_VALUE_CHARACTERS]
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS]

"""What an uploaded file holds, found in one pass with bounded memory: rows, columns, values, problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.adapt.dataset import percentile, reader_for
from app.adapt.reader import Problems, Row
from app.errors import InvalidData

MAX_DISTINCT = 1_000
MAX_VALUE_CHARACTERS = 200
MAX_LENGTHS = 100_000
TOP = 50
PREVIEW_ROWS = 3
KINDS = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list",
         dict: "object"}  # fmt: skip


class Column:
    """Counts of one column while it streams by."""

    def __init__(self) -> None:
        self.filled = 0
        self.kinds: Counter[str] = Counter()
        self.values: Counter[str] | None = Counter()
        self.lengths: list[int] = []

    def add(self, value: Any) -> None:
        """Take one value."""
        if value is None or value == "":
            return
        self.filled += 1
        self.kinds[KINDS.get(type(value), "other")] += 1
        text = value if isinstance(value, str) else str(value)
        if isinstance(value, str) and len(self.lengths) < MAX_LENGTHS:
            self.lengths.append(len(text))
        if self.values is not None:
            self.values[text[:MAX_VALUE_CHARACTERS]] += 1
            if len(self.values) > MAX_DISTINCT:
                self.values = None

    def to_dict(self, name: str, rows: int) -> dict[str, Any]:
        """Return the column's summary; `distinct` is null past a thousand values."""
        kinds = list(self.kinds)
        top = [] if self.values is None else self.values.most_common(TOP)
        summary: dict[str, Any] = {
            "name": name,
            "kind": kinds[0] if len(kinds) == 1 else ("mixed" if kinds else "empty"),
            "filled": self.filled,
            "empty": rows - self.filled,
            "distinct": None if self.values is None else len(self.values),
            "top": [{"value": value, "count": count} for value, count in top],
        }
        if self.lengths:
            ordered = sorted(self.lengths)
            summary["characters"] = {
                "min": ordered[0],
                "mean": round(sum(ordered) / len(ordered), 1),
                "p50": percentile(ordered, 0.5),
                "p95": percentile(ordered, 0.95),
                "max": ordered[-1],
            }
        return summary


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
            columns.setdefault(name, Column()).add(value)
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
    """Cut long texts, and turn what JSON cannot hold (dates, decimals, bytes) into text."""
    if isinstance(value, str):
        return value[:MAX_VALUE_CHARACTERS]
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value)[:MAX_VALUE_CHARACTERS]

"""How counts and row numbers are written in messages for people."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 10
LONG = 60


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 row` or `2 rows`; `many` is for more than a noun ("row is", "rows are")."""
    return f"{count:,} {one if count == 1 else many or plural(one)}"


def plural(noun: str) -> str:
    """Return the plural of the nouns of this project."""
    return noun[:-1] + "ies" if noun.endswith("y") else noun + "s"


def in_rows(rows: Sequence[int | None]) -> str:
    """Return `row 3`, or `rows 3, 5, ...` with the first ten."""
    known = [str(row) for row in rows if row is not None]
    more = ", ..." if len(known) > SHOWN else ""
    return f"row{'s' if len(known) != 1 else ''} {', '.join(known[:SHOWN])}{more}"


def listed(names: Sequence[str], shown: int = SHOWN) -> str:
    """Return the first names in quotes, long ones cut, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(cut(name)) for name in names[:shown]) + more


def all_of(names: Sequence[str], word: str = "and") -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def cut(text: str, length: int = LONG) -> str:
    """Return a text that is at most `length` characters and its ellipsis long."""
    return text if len(text) <= length else text[:length] + "..."

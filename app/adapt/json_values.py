"""Which JSON values no row may hold, because not everything that reads them again could."""

from __future__ import annotations

import re
from typing import Any, cast

MAX_DEPTH = 32
LONG_NUMBER = re.compile(r"\d{19}")  # only where there is one, a whole number can be too large
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
TOO_LARGE = "a whole number has more than 64 bits"


def has_huge_integer(value: Any) -> bool:
    """Say whether a whole number in it has more than 64 bits."""
    if isinstance(value, dict):
        return any(map(has_huge_integer, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return any(map(has_huge_integer, cast("list[Any]", value)))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def is_deep(value: Any) -> bool:
    """Say whether it is nested more than `MAX_DEPTH` levels deep."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += cast("dict[str, Any]", item).values()
            elif isinstance(item, list):
                inner += cast("list[Any]", item)
        level = inner
    return any(isinstance(item, (dict, list)) for item in level)

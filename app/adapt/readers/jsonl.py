"""JSON Lines: one object a line (https://jsonlines.org)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from app.adapt.reader import Problem, Problems, Reader, Row
from app.adapt.text import check_text

MAX_LINE_CHARACTERS = 256 * 1024
MAX_DEPTH = 32
SHOWN = 80


class JsonLines(Reader):
    """Reads `.jsonl` and `.ndjson`. `Row.number` is the line, from 1; blank lines are passed over."""

    kind: Literal["jsonl"] = "jsonl"
    extensions: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield each line that is a JSON object; say of the others what is wrong with them."""
        encoding = check_text(path, problems.filename)
        with path.open(encoding=encoding, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                fault = _fault(line)
                if fault is None:
                    try:
                        value: Any = msgspec.json.decode(line)
                    except (msgspec.DecodeError, RecursionError) as error:
                        fault = ("broken_json", f"not valid JSON: {error}")
                    else:
                        if isinstance(value, dict):
                            yield Row(number, value)
                            continue
                        message = f"a line must be a JSON object, not {_name(value)}"
                        fault = ("not_an_object", message)
                problems.add(Problem(fault[0], fault[1], number, None, line.strip()[:SHOWN]))


def _fault(line: str) -> tuple[str, str] | None:
    if len(line) > MAX_LINE_CHARACTERS:
        return "line_too_long", f"the line has more than {MAX_LINE_CHARACTERS} characters"
    # Counting first is cheap; only a line with many brackets is worth looking into.
    if line.count("[") + line.count("{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
        return "json_too_deep", f"the JSON is nested more than {MAX_DEPTH} levels deep"
    return None


def _depth(line: str) -> int:
    deepest = level = 0
    in_string = escaped = False
    for character in line:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def _has_huge_integer(value: Any) -> bool:
    """Say whether any integer does not fit 64 bits; those break floats, databases and other readers."""
    if isinstance(value, dict):
        return any(map(_has_huge_integer, value.values()))
    if isinstance(value, list):
        return any(map(_has_huge_integer, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _name(value: Any) -> str:
    return {list: "an array", str: "a string", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )

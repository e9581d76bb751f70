"""JSON lines: one object a line. A bad line is a problem with its number; the others are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import msgspec

from app.adapt.lines import read_lines, refuse
from app.adapt.reader import Problem, Problems, Reader, Row

MAX_LINE_BYTES = 256 * 1024
MAX_DEPTH = 32
SHOWN = 200
LONG_NUMBER = re.compile(r"\d{19}")
NAMES = {"list": "an array", "str": "a string", "NoneType": "null", "bool": "a boolean"}


class Jsonl(Reader):
    """One JSON object a line, in UTF-8; blank lines are skipped."""

    kind: Literal["jsonl"] = "jsonl"
    # A .json file may hold lines.
    extensions: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    media_types: ClassVar[tuple[str, ...]] = ("application/jsonl", "application/x-ndjson")

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield each line that is an object; `Row.number` is its line.

        Raises:
            InvalidData: not text, one JSON array instead of lines, or no line is an object.
        """
        decoder = msgspec.json.Decoder()
        first: Problem | None = None
        is_blank = True
        good = 0
        for line in read_lines(path, problems.filename, MAX_LINE_BYTES):
            text = None if line.text is None else line.text.strip()
            if text == "":
                continue
            if is_blank and text is not None and (text == "[" or text.startswith("[{")):
                message = "this is one JSON array; write one object a line, without the brackets"
                refuse(problems.filename, "wrong_format", message, row=line.number)
            is_blank = False
            values = _object(decoder, text, line.number)
            if isinstance(values, Problem):
                first = first or values
                problems.add(values)
                continue
            good += 1
            yield Row(line.number, values)
        if is_blank:
            refuse(problems.filename, "empty_file", "the file holds blank lines only")
        if not good and first is not None and not _begins_with_object(first):
            message = f"no line is a JSON object; line {first.row}: {first.message}"
            refuse(problems.filename, "wrong_format", message, row=first.row, value=first.value)


def _object(decoder: msgspec.json.Decoder[Any], text: str | None, number: int) -> Any:
    """Return the line's object, or the problem with it."""
    if text is None:
        message = f"the line is longer than {MAX_LINE_BYTES // 1024} KiB"
        return Problem("line_too_long", message, number)
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    try:
        value = decoder.decode(text)
    except msgspec.ValidationError:
        return Problem("invalid_json", "a number is out of range", number, value=shown)
    except (msgspec.DecodeError, ValueError) as error:
        return Problem(
            "invalid_json", f"not valid JSON: {_reason(text, error)}", number, value=shown
        )
    except RecursionError:
        return _too_deep(number)
    return _fault(value, text, shown, number) or value


def _fault(value: Any, text: str, shown: str, number: int) -> Problem | None:
    if not isinstance(value, dict):
        found = NAMES.get(type(value).__name__, "a number")
        message = f'a line must be an object such as {{"text": "..."}}, not {found}'
        return Problem("not_an_object", message, number, value=shown)
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value):
        return _too_deep(number)
    if LONG_NUMBER.search(text) and _has_huge_integer(value):
        return Problem(
            "number_too_large", "a whole number has more than 64 bits", number, value=shown
        )
    return None


def _reason(text: str, error: Exception) -> str:
    if "truncated" in str(error) and text.endswith("}"):
        return "a string ends too early (half of a surrogate pair, or a missing quote)"
    return str(error)


def _has_huge_integer(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_huge_integer, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return any(map(_has_huge_integer, cast("list[Any]", value)))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _too_deep(number: int) -> Problem:
    return Problem("too_deep", f"nested more than {MAX_DEPTH} levels deep", number)


def _is_deep(value: Any) -> bool:
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


def _begins_with_object(problem: Problem) -> bool:
    """Say whether the line is an object gone wrong rather than another format."""
    value = problem.value
    return problem.code in {"line_too_long", "too_deep"} or (
        value is not None and value.startswith("{") and value != "{"
    )

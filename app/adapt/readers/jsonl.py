"""JSON lines: one object a line. A bad line is a problem with its number; the others are read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import msgspec

from app.adapt.json_values import (
    LONG_NUMBER,
    MAX_DEPTH,
    TOO_DEEP,
    TOO_LARGE,
    has_huge_integer,
    is_deep,
)
from app.adapt.lines import read_lines, refuse
from app.adapt.reader import Problem, Problems, Reader, Row

MAX_LINE_BYTES = 256 * 1024
SHOWN = 200
NOT_JSON = re.compile(r"[:,\[]\s*-?(NaN|Infinity)\b")
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
    row = cast("dict[str, Any]", value)
    if text.count("{") + text.count("[") > MAX_DEPTH and is_deep(row):
        return _too_deep(number)
    if LONG_NUMBER.search(text) and has_huge_integer(row):
        return Problem("number_too_large", TOO_LARGE, number, value=shown)
    if text.count('":') > len(row) and not any(isinstance(v, dict | list) for v in row.values()):
        twice = _key_twice(text)
        if twice is not None:
            message = f"the line names {twice!r} twice"
            return Problem("duplicate_column", message, number, twice, shown)
    return None


def _key_twice(text: str) -> str | None:
    """Return a key that an object has twice; msgspec keeps the last one without a word."""
    keys: list[str] = []
    json.loads(text, object_pairs_hook=lambda pairs: keys.extend(key for key, _ in pairs))
    return next((key for key, count in Counter(keys).items() if count > 1), None)


def _reason(text: str, error: Exception) -> str:
    if NOT_JSON.search(text):
        return "NaN and Infinity are not JSON; write null, or leave the field out"
    if "truncated" in str(error) and text.endswith("}"):
        return "a string ends too early (half of a surrogate pair, or a missing quote)"
    return str(error)


def _too_deep(number: int) -> Problem:
    return Problem("too_deep", TOO_DEEP, number)


def _begins_with_object(problem: Problem) -> bool:
    """Say whether the line is an object gone wrong rather than another format."""
    value = problem.value
    return problem.code in {"line_too_long", "too_deep"} or (
        value is not None and value.startswith("{") and value != "{"
    )

"""JSON documents: an array of objects, or the nested form of SQuAD, one row for each question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import msgspec

from app.adapt.json_values import (
    LONG_NUMBER,
    TOO_DEEP,
    TOO_LARGE,
    has_huge_integer,
    is_deep,
)
from app.adapt.lines import check_container, read_lines, refuse
from app.adapt.reader import Problem, Problems, Reader, Row

MAX_BYTES = 256 * 1024 * 1024  # it is read whole
SHOWN = 200


class JsonDocument(Reader):
    """One JSON document in UTF-8, read whole: `[{...}, ...]`, or an object with the rows in `data`.

    A row is numbered by its place in the array, from 1. Of SQuAD's form (Rajpurkar et al. 2016) each
    question becomes a row: its own fields, and its paragraph's `context`.
    """

    kind: Literal["json"] = "json"
    extensions: ClassVar[tuple[str, ...]] = (".json",)
    media_types: ClassVar[tuple[str, ...]] = ("application/json",)

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Say no to JSON lines, whose first line is an object by itself and not the last one."""
        text = start.lstrip(b"\xef\xbb\xbf \r\n\t")
        if not text.startswith(b"{"):
            return text.startswith(b"[")
        first, separator, rest = text.partition(b"\n")
        try:
            value: Any = msgspec.json.decode(first)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return b"}\n{" not in text.replace(b"\r\n", b"\n")
        return not (separator and rest.strip()) and isinstance(value, dict) and "data" in value

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield each object of the array.

        Raises:
            InvalidData: not JSON, too large, or no array of objects in it.
        """
        filename = problems.filename
        content, items = _items(path, filename)
        good = 0
        may_be_huge = LONG_NUMBER.search(content.decode()) is not None
        for number, item in enumerate(flattened(items), start=1):
            if is_deep(item):
                problems.add(Problem("too_deep", TOO_DEEP, number))
            elif may_be_huge and has_huge_integer(item):
                problems.add(Problem("number_too_large", TOO_LARGE, number))
            elif isinstance(item, dict):
                good += 1
                yield Row(number, cast("dict[str, Any]", item))
            else:
                message = 'an element must be an object such as {"text": "..."}'
                problems.add(Problem("not_an_object", message, number, value=str(item)[:SHOWN]))
        if not good and not problems.counts.keys() & {"too_deep", "number_too_large"}:
            refuse(
                filename,
                "wrong_format" if items else "empty_file",
                "there is no object in the array",
            )


def _items(path: Path, filename: str) -> tuple[bytes, list[Any]]:
    """Return the document's bytes and its array.

    Raises:
        InvalidData: not JSON, too large, or no array.
    """
    check_container(path, filename)
    if path.stat().st_size > MAX_BYTES:
        message = (
            f"a JSON document is read whole and may have {MAX_BYTES // 2**20} MiB; larger data "
            "goes into JSON lines, one object a line"
        )
        refuse(filename, "file_too_large", message)
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        refuse(filename, "empty_file", "the file is empty")
    try:
        document: Any = msgspec.json.decode(content)
    except UnicodeDecodeError:
        for _ in read_lines(path, filename, MAX_BYTES):
            pass  # it says which line, and what encoding it looks like
        refuse(filename, "wrong_encoding", "the file is not UTF-8")
    except RecursionError:
        refuse(filename, "too_deep", TOO_DEEP)
    except msgspec.DecodeError as error:
        refuse(filename, "invalid_json", f"not valid JSON: {error}")
    items = document.get("data") if isinstance(document, dict) else document
    if not isinstance(items, list):
        message = 'the document must be an array of objects, or {"data": [...]}'
        refuse(filename, "wrong_format", message)
    return content, cast("list[Any]", items)


def flattened(items: list[Any]) -> Iterator[Any]:
    """Yield the items; of SQuAD's articles, each question with its context."""
    for item in items:
        paragraphs = (
            cast("dict[str, Any]", item).get("paragraphs") if isinstance(item, dict) else None
        )
        if not isinstance(paragraphs, list):
            yield item
            continue
        for paragraph in cast("list[Any]", paragraphs):
            entry = cast("dict[str, Any]", paragraph) if isinstance(paragraph, dict) else {}
            questions = entry.get("qas")
            if not isinstance(questions, list):
                yield paragraph
                continue
            for question in cast("list[Any]", questions):
                if isinstance(question, dict):
                    yield {**cast("dict[str, Any]", question), "context": entry.get("context")}
                else:
                    yield question

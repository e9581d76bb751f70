"""CoNLL files: a token a line with its columns, a blank line after each sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from app.adapt.lines import read_lines, refuse
from app.adapt.reader import Problem, Problems, Reader, Row

MAX_LINE_BYTES = 64 * 1024
DOCUMENT = "-DOCSTART-"
MIN_COLUMNS = 2


class Conll(Reader):
    """Tokens in the first column, tags in the last; columns are parted by tabs, or else by spaces.

    Source: Tjong Kim Sang & De Meulder 2003 (the CoNLL-2003 shared task). A row is a sentence, numbered
    by the line of its first token.
    """

    kind: Literal["conll"] = "conll"
    extensions: ClassVar[tuple[str, ...]] = (
        ".conll",
        ".bio",
        ".iob",
        ".iob2",
        ".bioes",
        ".conll2003",
    )

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield `{"tokens": [...], "tags": [...]}` for each sentence.

        Raises:
            InvalidData: not text, or no line has a token and a tag.
        """
        tokens: list[str] = []
        tags: list[str] = []
        begin = 0
        fault: Problem | None = None
        good = 0

        def sentence() -> Iterator[Row]:
            nonlocal good, fault
            if fault is not None:
                problems.add(fault)
            elif tokens:
                good += 1
                values: dict[str, Any] = {"tokens": tokens.copy(), "tags": tags.copy()}
                yield Row(begin, values)
            tokens.clear()
            tags.clear()
            fault = None

        for line in read_lines(path, problems.filename, MAX_LINE_BYTES):
            text = (line.text or "").rstrip("\r\n")
            if line.text is not None and (not text.strip() or text.startswith(DOCUMENT)):
                yield from sentence()
                continue
            begin = begin if tokens or fault else line.number
            columns = [part.strip() for part in text.split("\t")] if "\t" in text else text.split()
            if line.text is None or len(columns) < MIN_COLUMNS or not columns[0]:
                message = "a line holds a token and its tag, with a tab or spaces between them"
                fault = fault or Problem(
                    "wrong_columns", message, line.number, value=text[:80] or None
                )
                continue
            tokens.append(columns[0])
            tags.append(columns[-1])
        yield from sentence()
        if not good:
            message = "no line holds a token and its tag, with a tab or spaces between them"
            refuse(problems.filename, "wrong_format", message)

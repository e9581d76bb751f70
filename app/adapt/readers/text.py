"""Plain text: a line is a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from app.adapt.lines import read_lines, refuse
from app.adapt.reader import Problem, Problems, Reader, Row

MAX_LINE_BYTES = 128 * 1024


class Text(Reader):
    """Lines of UTF-8, in the column `text`; blank ones are skipped, and keep their numbers."""

    kind: Literal["text"] = "text"
    extensions: ClassVar[tuple[str, ...]] = (".txt", ".text")
    media_types: ClassVar[tuple[str, ...]] = ("text/plain",)

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield `{"text": ...}` for each line.

        Raises:
            InvalidData: not text, or blank throughout.
        """
        found = False
        for line in read_lines(path, problems.filename, MAX_LINE_BYTES):
            if line.text is None:
                found = True
                message = (
                    f"the line is longer than {MAX_LINE_BYTES // 1024} KiB; break it into lines"
                )
                problems.add(Problem("row_too_long", message, line.number, "text"))
            elif line.text.strip():
                found = True
                yield Row(line.number, {"text": line.text.rstrip("\r\n")})
        if not found:
            refuse(problems.filename, "empty_file", "every line is blank")

"""Delimited text: CSV, TSV and their relatives. Every value is a string; it knows no types and no tasks.

The standard library's parser does the parsing, one record at a time, fed with the physical lines of
that record: so each row has its true line, and a quote that is never closed costs one row, not the rest
of the file. (DuckDB 2.0's `read_csv(store_rejects = true)` drops everything after such a quote without
reporting it, and gives no line for good rows.)
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from app.adapt.lines import MAX_LINE_CHARACTERS, head_text, read_head, read_lines
from app.adapt.reader import Problem, Problems, Reader, Row
from app.errors import InvalidData

DELIMITERS = (",", ";", "\t", "|")
MAX_RECORD_LINES = 1000
MAX_BROKEN_QUOTES = 1000
MAX_COLUMN_NAME = 255
SNIFFED_RECORDS = 50
SHOWN = 80


class Csv(Reader):
    """Rows under a header line, separated by `,`, `;`, tab or `|`; blank rows are skipped.

    A row's number is the 1-based line of the file on which it begins; a quoted cell may span lines.
    Tab-separated files often hold bare quotes; there a quote quotes only if it does so consistently in
    the first 64 KiB.
    """

    kind: Literal["csv"] = "csv"
    extensions = (".csv", ".tsv")
    media_types = ("text/csv", "text/tab-separated-values")

    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="null: found in the first rows."
    )

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield the rows; one with too few or many cells, or a broken quote, is a problem of its line.

        Raises:
            InvalidData: not text, no usable header, nothing below it, or hardly any intact row.
        """
        lines = read_lines(path, problems.filename)
        sample = head_text(read_head(path))
        delimiter = self.delimiter or sniff_delimiter(sample)
        records = _Records(lines, problems, delimiter, is_quoted=_is_quoted(sample, delimiter))
        header: list[str] | None = None
        num_rows = 0
        for number, cells in records:
            if header is None:
                header = _header(cells, number, problems.filename, delimiter)
                continue
            num_rows += 1
            if len(cells) == len(header):
                yield Row(number, dict(zip(header, cells, strict=True)))
            else:
                problems.add(_ragged(cells, header, number, delimiter))
        if header is None:
            raise _unusable(problems, "empty_file", "there is no header line", row=1)
        if not num_rows and not problems:
            raise _unusable(problems, "no_rows", "there is a header, but no row below it", row=1)


class _Records:
    """Records of a text with the line each begins on; broken ones are problems, and reading goes on."""

    def __init__(
        self,
        lines: Iterator[tuple[int, str | None]],
        problems: Problems,
        delimiter: str,
        *,
        is_quoted: bool,
    ) -> None:
        self.lines = lines
        self.problems = problems
        self.again: deque[tuple[int, str | None]] = deque()
        self.taken: list[tuple[int, str | None]] = []
        self.size = self.num_broken = 0
        self.parser = csv.reader(
            self._feed(), delimiter=delimiter, strict=True,
            quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        )  # fmt: skip

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            self.taken, self.size = [], 0
            try:
                cells = next(self.parser)
            except StopIteration:
                if not self.taken:
                    return
                self._give_up_record("bad_quote", "a quote is opened and never closed")
            except _RecordTooLong as error:
                self._restart(error.code, error.message)
            except csv.Error as error:
                self._give_up_record(*_explain(error))
            else:
                if any(cells):
                    yield self.taken[0][0], cells

    def _feed(self) -> Iterator[str]:
        """Hand the parser line by line; what it has taken for the current record is kept."""
        while True:
            line = self.again.popleft() if self.again else next(self.lines, None)
            if line is None:
                return
            self.taken.append(line)
            number, text = line
            if text is None:
                yield '"'

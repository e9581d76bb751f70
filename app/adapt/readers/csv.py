"""Comma-, semicolon-, tab- and pipe-separated values with a header line.

The standard library's parser in strict mode, fed one line at a time: it knows each record's true
line, and what follows an unclosed quote is read again from the next line instead of being swallowed.
(DuckDB 2.0's `store_rejects` was tried: it counts records, not lines, drops an unclosed last record
without a word, and takes good rows along with a bad quote.)
"""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from app.adapt.lines import Line, read_lines, refuse
from app.adapt.reader import Problem, Problems, Reader, Row

MAX_LINE_BYTES = 1024 * 1024
MAX_FIELD_CHARS = 1024 * 1024
MAX_RECORD_LINES = 10_000
# Going back after a broken quote is bounded over the file, or a crafted one costs its size squared.
MAX_REREAD_CHARS = 64 * 1024 * 1024
LINE_COST_CHARS = 64
MAX_COLUMNS = 1000
SAMPLE_LINES = 50
DELIMITERS = (",", "\t", ";", "|")
SHOWN = 200

csv.field_size_limit(MAX_FIELD_CHARS)  # one for the process: the module has no other


class Csv(Reader):
    """A header line, then one record a row; every value is text."""

    kind: Literal["csv"] = "csv"
    extensions: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".tab")
    media_types: ClassVar[tuple[str, ...]] = ("text/csv", "text/tab-separated-values")

    def read(self, path: Path, problems: Problems) -> Iterator[Row]:
        """Yield each record as wide as the header; `Row.number` is the line on which it begins.

        Raises:
            InvalidData: not text, no usable header, or nothing below it.
        """
        source = _Source(read_lines(path, problems.filename, MAX_LINE_BYTES), problems)
        sample = source.peek(SAMPLE_LINES)
        _check_format(sample, problems.filename)
        delimiter, is_quoted = _sniff(sample)
        records = _records(source, delimiter, is_quoted=is_quoted)
        names = _header(records, problems)
        is_bare = True
        for number, record in records:
            is_bare = False
            if len(record) != len(names):
                problems.add(_ragged(number, record, names, delimiter))
                continue
            yield Row(number, dict(zip(names, record, strict=True)))
        if is_bare and not problems:
            refuse(problems.filename, "no_rows", "the file has a header and no rows", columns=names)


class _Source:
    """Lines for the parser, with those of the current record at hand to go back to."""

    def __init__(self, lines: Iterator[Line], problems: Problems) -> None:
        self.lines = lines
        self.problems = problems
        self.ahead: deque[Line] = deque()
        self.record: list[Line] = []
        self.reread = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._take()
        # A blank line between records is nothing; within quotes it is text.
        while not self.record and line.text is not None and not line.text.strip("\r\n"):
            line = self._take()
        if line.text is None:
            message = f"the line is longer than {MAX_LINE_BYTES // 1024} KiB"
            self.problems.add(Problem("line_too_long", message, line.number))
            line = Line(line.number, "\n")
        self.record.append(line)
        if len(self.record) > MAX_RECORD_LINES:
            message = f"a quoted value runs on for more than {MAX_RECORD_LINES} lines"
            raise csv.Error(message)
        return line.text or ""

    def _take(self) -> Line:
        return self.ahead.popleft() if self.ahead else next(self.lines)

    def peek(self, count: int) -> str:
        """Return the text of the first lines without taking them."""
        while len(self.ahead) < count:
            line = next(self.lines, None)
            if line is None:
                break
            self.ahead.append(line)
        return "".join(line.text or "\n" for line in self.ahead)

    def back_up(self) -> Line:
        """Give back every line of the failed record but its first, which is returned.

        Raises:
            InvalidData: so many quotes are broken that reading on would take too long.
        """
        first, *others = self.record
        self.reread += sum(len(line.text or "") + LINE_COST_CHARS for line in others)
        if self.reread > MAX_REREAD_CHARS:
            message = "too many quotes are opened and never closed; is this a CSV file?"
            refuse(self.problems.filename, "bad_quote", message, row=first.number)
        self.ahead.extendleft(reversed(others))
        return first


def _records(
    source: _Source, delimiter: str, *, is_quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    quoting = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    parser = csv.reader(source, delimiter=delimiter, strict=True, quoting=quoting)
    width = 0
    while True:
        source.record.clear()
        try:
            record = next(parser, None)
        except csv.Error as error:
            first = source.back_up()
            text = (first.text or "").rstrip("\r\n")
            if delimiter == "\t" and width == text.count("\t") + 1 > 1:
                # Most programs that write tabs write quotes bare: as many cells as there should be
                # make this line a row, and its quotes text.
                yield first.number, text.split("\t")
                continue
            source.problems.add(
                Problem("bad_quote", _reason(str(error)), first.number, value=text[:SHOWN])
            )
            continue
        if record is None:
            return
        # Spaces alone are a blank line; a quoted empty value is a row of its one column.
        text = source.record[0].text
        if text is not None and text.strip():
            width = width or len(record)
            yield source.record[0].number, record


def _reason(message: str) -> str:
    if "unexpected end of data" in message:
        return "a quote is opened and never closed"
    if "expected after" in message:
        return 'text follows a closing quote; inside a quoted value, write a quote as ""'
    if "field larger than" in message:
        return f"a value is longer than {MAX_FIELD_CHARS} characters, or its quote is never closed"
    return message


def _check_format(sample: str, filename: str) -> None:
    """Refuse JSON under a name of ours, whose quotes would only give baffling errors.

    Raises:
        InvalidData: `wrong_format`.
    """
    start = sample.lstrip("\ufeff \t\r\n")
    line = start.splitlines()[0] if start else ""
    if start[:1] in {"{", "["} and any(mark in line for mark in '":{'):
        message = "this looks like JSON, not CSV; name the file .jsonl"
        refuse(filename, "wrong_format", message, row=1)


def _header(records: Iterator[tuple[int, list[str]]], problems: Problems) -> list[str]:
    """Return the column names.

    Raises:
        InvalidData: none, an empty one, one twice, too many, or a line that cannot be read: the next
            good one is data, never the header.
    """
    filename = problems.filename
    number, found = next(records, (0, []))
    if problems.first:
        fault = problems.first[0]
        message = f"the header in line {fault.row} cannot be read: {fault.message}"
        refuse(filename, "no_header", message, row=fault.row, value=fault.value)
    names = [name.strip("\ufeff \t") for name in found]
    if not any(names):
        refuse(filename, "no_header", "the first line must name the columns", row=number or 1)
    if len(names) > MAX_COLUMNS:
        message = f"{len(names)} columns; the limit is {MAX_COLUMNS}"
        refuse(filename, "too_many_columns", message, row=number)
    for index, name in enumerate(names, 1):
        if not name:
            message = f"column {index} has no name in the header"
            refuse(filename, "empty_column_name", message, row=number, found=names)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        message = f"the header names {twice[0]!r} twice; the first line must name the columns"
        refuse(filename, "duplicate_column", message, row=number, column=twice[0], found=names)
    return names


def _ragged(number: int, record: list[str], names: list[str], delimiter: str) -> Problem:
    missing = names[len(record)] if len(record) < len(names) else None
    message = f"{len(record)} values, but the header has {len(names)} columns"
    if missing is None:
        message += "; put quotes around a value that holds the delimiter"
    shown = delimiter.join(record)[:SHOWN]
    return Problem("ragged_row", message, number, missing, shown)


def _sniff(sample: str) -> tuple[str, bool]:
    """Return the delimiter that cuts the sample into the most equal rows, and whether quotes quote.

    Tab-separated files often hold bare quotes; there a quote is text where that loses fewer rows.
    """
    lines = sample.splitlines(keepends=True)
    scores = {delimiter: _fit(lines, delimiter, is_quoted=True) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda delimiter: scores[delimiter][:2])
    if best != "\t":
        return best, True
    return best, scores[best][2] >= _fit(lines, best, is_quoted=False)[2]


def _fit(lines: list[str], delimiter: str, *, is_quoted: bool) -> tuple[float, int, int]:
    """Return the share of rows as wide as the first, that width, and the number of such rows."""
    quoting = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    parser = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
    widths: list[int] = []
    while True:
        try:
            row = next(parser, None)
        except csv.Error:
            widths.append(0)
            continue
        if row is None:
            break
        if row:
            widths.append(len(row))
    width = widths[0] if widths else 0
    if width < 2:  # noqa: PLR2004
        return 0.0, 0, 0
    good = widths.count(width)
    return good / len(widths), width, good

"""A file of inputs without answers, read as a stream: every row in its order, also those that are unusable.

Torch-free. In memory is what the reader holds: one row, or what lies between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.adapt.dataset import reader_for
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import Example, Task
from app.errors import InvalidData

MOST_UNREAD = 100_000  # rows in a row: what is wrong with them is in memory until the next good one


@dataclass(frozen=True, slots=True)
class Input:
    """One row: an example to be answered, or the problem with it; the row where it could be read."""

    number: int | None
    example: Example | None
    problem: Problem | None
    row: Row | None = None


def columns_of_file(path: Path, filename: str, *, max_rows: int) -> tuple[list[str], int]:
    """Return every column in the order of its first appearance, and how many rows there are.

    Raises:
        InvalidData: no row can be read, or there are more than `max_rows`.
    """
    columns: dict[str, None] = {}
    good = 0
    problems = Problems(filename)
    for row in reader_for(filename, path).read(path, problems):
        good += 1
        columns.update(dict.fromkeys(row.values))
        if good > max_rows:
            break
    if good + len(problems) > max_rows:
        message = f"{filename} has more than {max_rows} rows, the limit"
        raise InvalidData(message, param="data.inputs", code="too_many_rows",
                          details={"file": filename})  # fmt: skip
    if not good:
        problems.raise_if_any(param="data.inputs")
        message = f"{filename} has no rows"
        raise InvalidData(message, param="data.inputs", code="empty_file",
                          details={"file": filename})  # fmt: skip
    return list(columns), good + len(problems)


def inputs_of(path: Path, filename: str, task: Task, columns: Mapping[str, str]) -> Iterator[Input]:
    """Yield every row in order, as a predict call of the task would have it.

    Raises:
        InvalidData: so many rows one after the other cannot be read that it must be another format.
    """
    unread = Problems(filename, keep=MOST_UNREAD)
    for row in reader_for(filename, path).read(path, unread):
        yield from _taken(unread)
        problems = Problems(filename)
        examples = task.unlabeled([row], columns, problems)
        if examples:
            yield Input(row.number, examples[0], None, row)
        else:
            yield Input(row.number, None, problems.first[0], row)
    yield from _taken(unread)


def _taken(problems: Problems) -> Iterator[Input]:
    """Yield what the reader could not read since it was last asked, and forget it."""
    found, problems.first = problems.first, []
    if len(problems) > len(found):
        message = (
            f"{problems.filename}: more than {MOST_UNREAD:,} rows in a row cannot be read, from row "
            f"{found[0].row} on: {found[0].message}"
        )
        raise InvalidData(message, param="data.inputs", code=found[0].code,
                          details={"file": problems.filename})  # fmt: skip
    problems.counts.clear()
    for problem in found:
        yield Input(problem.row, None, problem)

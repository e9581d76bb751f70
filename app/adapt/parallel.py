"""Parallel files: line n of one belongs to line n of the others. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.adapt.dataset import Dataset, read_dataset
from app.adapt.reader import Problem, Problems, Row
from app.errors import InvalidData


def read_set(files: Mapping[str | None, tuple[Path, str]], param: str, *, max_rows: int) -> Dataset:
    """Read a set: the one file of role None, or parallel files by role; each is (path, filename).

    Raises:
        InvalidData: as `read_dataset` and `join`.
    """
    read = {
        role: read_dataset(path, filename, max_rows=max_rows)
        for role, (path, filename) in files.items()
    }
    if None in read:
        return read[None]
    return join({str(role): dataset for role, dataset in read.items()}, param)


def join(datasets: Mapping[str, Dataset], param: str) -> Dataset:
    """Return one data set with a column for each role, of files that have one column each.

    Rows are matched by their number, so a blank line in one file is a side that is missing: a problem of
    that row.

    Raises:
        InvalidData: a file has several columns.
    """
    sides: dict[str, dict[int, str]] = {}
    for role, dataset in datasets.items():
        if len(dataset.columns) != 1:
            message = (
                f"{dataset.filename} has the columns {dataset.columns}; of parallel files each has "
                "one text a line (.txt); with several columns, name the file alone"
            )
            raise InvalidData(message, param=f"{param}.{role}", code="not_parallel",
                              details={"file": dataset.filename})  # fmt: skip
        (column,) = dataset.columns
        sides[role] = {row.number: row.values[column] for row in dataset.rows}
    filename = " + ".join(dataset.filename for dataset in datasets.values())
    problems = Problems(filename)
    for dataset in datasets.values():
        problems.merge(dataset.problems)
    rows: list[Row] = []
    for number in sorted(set().union(*sides.values())):
        missing = [role for role, lines in sides.items() if number not in lines]
        if missing:
            message = f"line {number} of {datasets[missing[0]].filename} is blank or not there"
            problems.add(Problem("missing_side", message, number, missing[0]))
        else:
            rows.append(Row(number, {role: lines[number] for role, lines in sides.items()}))
    return Dataset(filename, rows, list(datasets), problems)

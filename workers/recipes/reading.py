"""From a job's files to a fitted task and its examples."""

from __future__ import annotations

from pathlib import Path

from app.adapt.dataset import Dataset, Prepared, prepare
from app.adapt.parallel import read_set
from app.errors import InvalidData
from app.spec.training import Training
from app.store.durable import sha256_of
from workers.protocol import Assignment
from workers.training.report import Report

MAX_ROWS = 5_000_000


def read_data(assignment: Assignment, spec: Training, report: Report) -> Prepared:
    """Read every set of the spec and fit the task; what people should know of it is said.

    Raises:
        InvalidData: a file is not what was uploaded, or the data does not fit the task.
    """
    read: dict[str, Dataset] = {
        name: read_set(
            {role: checked(assignment, file_id) for role, file_id in sides.items()},
            f"data.{name}",
            max_rows=MAX_ROWS,
        )
        for name, sides in spec.data.sets().items()
    }
    prepared = prepare(
        spec.task, spec.data, read["train"], read.get("validation"), read.get("test")
    )
    for warning in prepared.warnings:
        report.log(warning, "warning")
    return prepared


def checked(assignment: Assignment, file_id: str) -> tuple[Path, str]:
    """Return path and name of an uploaded file.

    Raises:
        InvalidData: a disk or a person has changed it since the upload that its report was made from.
    """
    file = assignment.files[file_id]
    if not file.path.is_file() or sha256_of(file.path) != file.sha256:
        message = f"{file.filename} is not what was uploaded any more; upload it again"
        raise InvalidData(message, param="data", code="file_damaged",
                          details={"file": file.filename, "id": file.id})  # fmt: skip
    return file.path, file.filename

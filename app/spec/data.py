"""Which data a job uses: files, split and column mapping."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.kit.schema import Frozen
from app.spec.base import Sides

FILE_ID = re.compile(r"^file-[0-9a-z]{26}$")


def _file_id(value: str) -> str:
    if not FILE_ID.fullmatch(value):
        message = "not a file id (file-...); upload the file with POST /v1/files first"
        raise PydanticCustomError("file_id", message)
    return value


FileId = Annotated[str, AfterValidator(_file_id)]
Role = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Parallel = Annotated[dict[Role, FileId], Field(min_length=2, max_length=8)]
Files = FileId | Parallel
Column = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Split(Frozen):
    """How rows are set aside when no validation file is named: seeded, and stratified by label."""

    validation: Annotated[float, Field(gt=0, le=0.5)] | Literal["auto"] = Field(
        default="auto",
        description="Share of the training rows held out; auto: 10 %, at least 50 rows, "
        "but of fewer than 200 a fourth; at most 2,000.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31)


class Data(Frozen):
    """The files of a job. Without `validation`, rows of `train` are held out as `split` says.

    A set is one file, or parallel text files by role: line n of one belongs to line n of the other.
    """

    train: Files = Field(
        description='A file, or one for each role: {"source": "file-...", "target": "file-..."}.'
    )
    validation: Files | None = None
    test: Files | None = Field(default=None, description="Evaluated once, with the final model.")
    columns: dict[str, Column] = Field(
        default={}, description="Role to column, e.g. {'text': 'review', 'label': 'stars'}."
    )
    split: Split = Split()
    on_bad_rows: Literal["fail", "skip"] = Field(
        default="fail", description="fail: any unusable row fails the job; skip: report and go on."
    )

    def sets(self) -> dict[str, Sides]:
        """Return the file ids of each set that is named, by role."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: sides_of(files) for name, files in given.items() if files is not None}


def sides_of(files: Files) -> Sides:
    """Return the file ids of a set by role."""
    return {None: files} if isinstance(files, str) else {**files}

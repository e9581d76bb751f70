"""The `batch_predict` job: a file of inputs in, a file of answers out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from app.errors import InvalidData
from app.kit.schema import Frozen
from app.spec.answering import Answering
from app.spec.base import Sides
from app.spec.data import Column, FileId, sides_of
from app.spec.optimization import Auto

MOST_CHUNKS = 100
LEAST_ROWS = 256
LEAST_WRITTEN = 32  # writing takes a thousand times as long as reading off
MOST_ROWS = 16_384
KEPT = ("id",)
RESERVED = ("row", "answer", "error")


class InputData(Frozen):
    """The rows that are answered."""

    inputs: FileId = Field(description="A file with the task's columns but for the answers.")
    columns: dict[str, Column] = Field(
        default={}, description="Role to column, e.g. {'text': 'review'}."
    )
    keep: list[Column] | None = Field(
        default=None, max_length=64,
        description="Columns that are copied to the answer's line; null: `id`, where there is one.",
    )  # fmt: skip
    on_bad_rows: Literal["report", "skip", "fail"] = Field(
        default="report",
        description="A row that cannot be used: report: its line has an error for the answer; skip: it has "
        "no line; fail: the job fails before anything is answered.",
    )


class BatchPredict(Answering):
    """Answer every row of `data.inputs`, in the order of the rows."""

    kind: Literal["batch_predict"] = "batch_predict"
    data: InputData
    chunk_rows: Annotated[int, Field(ge=1, le=1_000_000)] | Auto = Field(
        default="auto",
        description="Rows that are sorted by length and answered together, and then safe from a crash; "
        f"auto: a hundredth of the file, {LEAST_ROWS} at least ({LEAST_WRITTEN} where answers are written) "
        f"and {MOST_ROWS} at most.",
    )

    def sets(self) -> dict[str, Sides]:
        """Return the one file."""
        return {"data.inputs": sides_of(self.data.inputs)}

    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """See `BaseSpec.check_set`."""
        del field, summary
        self.known_task.input_columns(found, self.data.columns, filename)
        self.kept_columns(found, filename)

    def kept_columns(self, found: Sequence[str], filename: str) -> list[str]:
        """Return the columns that are copied.

        Raises:
            InvalidData: a column that was asked for is missing, or is named like a field of a line.
        """
        if self.data.keep is None:
            return [name for name in KEPT if name in found]
        for at, name in enumerate(self.data.keep):
            if name not in found or name in RESERVED:
                raise _cannot_keep(name, found, filename, f"data.keep.{at}")
        return self.data.keep

    def rows_a_chunk(self, rows: int) -> int:
        """Return the size of a chunk in a file of so many rows."""
        if self.chunk_rows != "auto":
            return self.chunk_rows
        least = LEAST_WRITTEN if self.known_task.generates else LEAST_ROWS
        return min(MOST_ROWS, max(least, math.ceil(rows / MOST_CHUNKS)))


def _cannot_keep(name: str, found: Sequence[str], filename: str, param: str) -> InvalidData:
    if name in RESERVED:
        message = f"{param}: a line of the output has a field {name!r} of its own"
        return InvalidData(message, param=param, code="reserved_column")
    message = f"{param}: {filename} has no column {name!r}; it has: {list(found)}"
    return InvalidData(message, param=param, code="column_not_found",
                       details={"file": filename, "column": name, "found": list(found)})  # fmt: skip

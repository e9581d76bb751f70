"""The `evaluate` job: how good is a model on a labelled file?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field

from app.adapt.dataset import resolve_columns
from app.adapt.task import Task
from app.errors import InvalidSpec
from app.kit.schema import Frozen
from app.spec.answering import Answering
from app.spec.base import Sides
from app.spec.data import Column, Files, sides_of


class LabelledData(Frozen):
    """The rows that a model is judged by: one file, or parallel text files by role."""

    test: Files = Field(
        description='A file, or one for each role: {"source": "file-...", "target": "file-..."}.'
    )
    columns: dict[str, Column] = Field(
        default={}, description="Role to column, e.g. {'text': 'review', 'label': 'stars'}."
    )
    on_bad_rows: Literal["fail", "skip"] = Field(
        default="fail",
        description="fail: any row that cannot be used, or has a label that the model does not know, "
        "fails the job; skip: report and go on.",
    )


class Evaluate(Answering):
    """Judge `model` by the rows of `data.test`."""

    kind: Literal["evaluate"] = "evaluate"
    data: LabelledData
    worst: int = Field(
        default=20, ge=0, le=1_000,
        description="How many of the rows that it does worst the report shows.",
    )  # fmt: skip

    def knowing(self, tasks: Mapping[str, Task]) -> Self:
        """See `Answering.knowing`; figures depend on options only where answers are written."""
        known = super().knowing(tasks)
        if self.parameters and not known.known_task.generates:
            message = f"parameters: the figures of {known.known_task.name()} depend on none; leave them out"
            raise InvalidSpec(message, param="parameters", code="parameters_not_possible")
        return known

    def sets(self) -> dict[str, Sides]:
        """Return the files of the one set."""
        return {"data.test": sides_of(self.data.test)}

    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """See `BaseSpec.check_set`."""
        del field, summary
        resolve_columns(self.known_task, found, self.data.columns, filename)

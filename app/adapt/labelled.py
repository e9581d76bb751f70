"""Rows that a model is judged by, as the task that it has learned reads them. Torch-free."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from app.adapt.dataset import Dataset, Reading, RowRules
from app.adapt.task import Example, Task
from app.errors import InvalidData

SET = "test"


@dataclass(frozen=True)
class Labelled:
    """A fitted task and the examples of one set; `report` is JSON-able, with a section for the set."""

    task: Task
    examples: list[Example]
    report: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def prepare_labelled(
    task: Task, data: RowRules, dataset: Dataset, *, is_fitted: bool = True
) -> Labelled:
    """Return the examples of a set that the task can use.

    A task that is not fitted is, on these rows: of a base model, nothing but the rows tells which form
    of the task it does.

    Raises:
        InvalidData: wrong columns, unusable rows or unknown labels (unless they are to be skipped), or
            none that is left.
    """
    reading = Reading(data)
    examples = reading.parse(task, dataset, SET)
    if not is_fitted:
        try:
            task = task.fit(examples, dataset.filename)
        except InvalidData as error:
            error.param = f"data.{SET}"
            raise
    examples = reading.check(task, examples, SET)
    described = task.report(len(dataset.rows) + len(dataset.problems), examples)
    section = {name: value for name, value in asdict(described).items() if name != "repairs"}
    section["warnings"] = [*described.repairs, *described.warnings]
    if reading.problems[SET]:
        section["problems"] = reading.problems[SET].to_dict()
    report = {"columns": reading.columns[SET], SET: section}
    said = [f"{SET}: {text}" for text in described.repairs]
    return Labelled(task, examples, report, [*reading.warnings, *said])

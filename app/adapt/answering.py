"""How a task is asked: its options, and the answers that become of scores. Torch-free.

The predict route and the jobs that ask models share it, so that both answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from app.adapt.outputs import Encoded
from app.adapt.task import Task
from app.errors import InvalidRequest


def parse_parameters(task: Task, parameters: dict[str, Any]) -> Any:
    """Return the task's parameters.

    Raises:
        InvalidRequest: with param `parameters.<name>`.
    """
    try:
        return task.parameters.model_validate(task.default_parameters() | parameters)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(["parameters", *(str(part) for part in first["loc"])])
        message = f"{param}: {first['msg']}"
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(task.parameters.model_fields)) or "none"
            message = f"{param}: {task.name()} does not know it; it knows: {known}"
        raise InvalidRequest(message, param=param) from None


def decode_answers(
    task: Task, raw: Sequence[Any], encoded: Sequence[Encoded], options: Any
) -> list[Any]:
    """Return one answer for each input, whose rows lie side by side."""
    answers: list[Any] = []
    rows = zip(raw, encoded, strict=True)
    for _, group in groupby(rows, key=lambda row: row[1].example):
        members = list(group)
        answer = task.merge([task.decode(row, item, options) for row, item in members], options)
        if any(item.extra.get("truncated") for _, item in members) and isinstance(answer, dict):
            answer["truncated"] = True
        answers.append(answer)
    return answers

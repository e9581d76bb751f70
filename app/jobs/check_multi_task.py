"""The dry run of a `multi_task` job: that of each task by itself, put together. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.errors import within
from app.jobs.check_answering import Paths
from app.jobs.schemas import CheckOut
from app.spec.fine_tune import FineTune
from app.spec.multi_task import MultiTask

ADDED = ("steps", "tokens", "seconds")  # over all tasks; of the rest, the most that one needs


def check_multi_task(
    spec: MultiTask,
    paths: dict[str, Paths],
    check: Callable[[FineTune, dict[str, Paths]], CheckOut],
) -> CheckOut:
    """Check each task as a job of its own with `check`.

    Raises:
        InvalidData: the data of a task does not fit it; `param` begins with the task.
    """
    resolved = spec.model_dump(mode="json")
    estimate: dict[str, Any] = {}
    data: dict[str, Any] = {}
    warnings: list[str] = []
    for name in sorted(spec.tasks):
        prefix = f"tasks.{name}."
        own = {
            field.removeprefix(prefix): sides
            for field, sides in paths.items()
            if field.startswith(prefix)
        }
        with within(f"tasks.{name}"):
            found = check(spec.part(name), own)
        data[name] = found.data
        warnings += [f"{name}: {warning}" for warning in found.warnings]
        resolved["tasks"][name]["task"] = found.spec["task"]
        for key, value in found.estimate.items():
            old = estimate.get(key)
            if isinstance(old, int | float):
                estimate[key] = old + value if key in ADDED else max(old, value)
            else:
                estimate[key] = value
        # Of the tasks' own values the largest, as the job has it.
        for key in ("batch_size", "max_length", "epochs", "max_batch_tokens"):
            known = resolved["optimization"][key]
            other = found.spec["optimization"][key]
            resolved["optimization"][key] = other if isinstance(known, str) else max(known, other)
        resolved["optimization"]["learning_rate"] = found.spec["optimization"]["learning_rate"]
    return CheckOut(spec=resolved, data=data, estimate=estimate, warnings=warnings)

"""The objective of a run: which losses, with which settings, and whether they fit the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from app.adapt.loss import Loss
from app.adapt.outputs import Encoded
from app.adapt.plugins import LOSSES, AnyLoss
from app.adapt.task import Example, Task
from app.errors import InvalidSpec
from app.spec.distill import Distill
from app.spec.training import Training
from workers.training.evaluate import Stage

DISTANCE_SHARE = 0.9  # of a distillation's objective
TEMPERATURE = 2.0
_ADAPTER: TypeAdapter[Loss] = TypeAdapter(AnyLoss)


def make_losses(spec: Training, task: Task, examples: Sequence[Example]) -> list[Loss]:
    """Return the objective: as the spec names it, else the task's own, and a distance to the teacher.

    The distance counts nine times what the task's own loss does. It is KL at T = 2 unless the task's
    answers are no shares (numbers, vectors) or the student learns better otherwise. Of answers that the
    teacher has written, there is no distance: they are learned as they are.

    Raises:
        InvalidSpec: a loss needs a teacher, or no loss of the task takes a setting that was made.
    """
    is_taught = isinstance(spec, Distill)
    if spec.losses is not None:
        for index, loss in enumerate(spec.losses):
            if loss.needs_teacher and not is_taught:
                message = (
                    f"losses.{index}: {loss.name()} needs a teacher: submit a job of kind 'distill'"
                )
                raise InvalidSpec(message, param=f"losses.{index}")
        return list(spec.losses)
    own = task_losses(spec, task, examples)
    if not is_taught or spec.is_written:
        return own
    kind = task.distance()
    if kind == "kl_divergence" and not isinstance(spec.student, str):
        kind = spec.student.distance or kind
    distance: dict[str, Any] = {"kind": kind, "weight": DISTANCE_SHARE}
    # Words differ as it is: Kim and Rush 2016 (arXiv 1606.07947) teach them at T = 1.
    if distance["kind"] == "kl_divergence" and task.teaching != "tokens":
        distance["temperature"] = TEMPERATURE
    own = [loss.model_copy(update={"weight": 1 - DISTANCE_SHARE}) for loss in own]
    return [*own, _ADAPTER.validate_python(distance)]


def task_losses(spec: Training, task: Task, examples: Sequence[Example]) -> list[Loss]:
    """Return the task's own objective with the spec's smoothing and class weights.

    Raises:
        InvalidSpec: no loss of the task takes a setting that was made.
    """
    settings: dict[str, Any] = {}
    if spec.optimization.label_smoothing:
        settings["label_smoothing"] = spec.optimization.label_smoothing
    if spec.optimization.class_weights == "balanced":
        settings["class_weights"] = balanced_weights(task, examples)
    defaults = task.default_losses()
    for name in settings:
        if not any(name in LOSSES[given["kind"]].model_fields for given in defaults):
            kinds = ", ".join(given["kind"] for given in defaults)
            message = f"optimization.{name} does not apply to this task's loss ({kinds})"
            raise InvalidSpec(message, param=f"optimization.{name}")
    return [
        _ADAPTER.validate_python(
            given
            | {
                name: value
                for name, value in settings.items()
                if name in LOSSES[given["kind"]].model_fields
            }
        )
        for given in defaults
    ]


def own_losses(task: Task) -> list[Loss]:
    """Return the task's own objective as it is."""
    return [_ADAPTER.validate_python(given) for given in task.default_losses()]


def balanced_weights(task: Task, examples: Sequence[Example]) -> list[float]:
    """Return n / (C * n_c) for each class c, 0 for one without rows (scikit-learn's "balanced").

    Raises:
        InvalidSpec: this task has no classes, or several at once for a row.
    """
    counts = task.class_counts(examples)
    if not counts:
        message = (
            "optimization.class_weights needs one class for each target, which this task has not"
        )
        raise InvalidSpec(message, param="optimization.class_weights")
    total = sum(counts)
    return [total / (len(counts) * count) if count else 0.0 for count in counts]


@torch.no_grad()
def with_learned(stage: Stage, encoded: Sequence[Encoded], seed: int) -> Stage:
    """Return the stage with what its losses have to learn to compare student and teacher.

    It is drawn on the CPU from the seed: the same on every device.

    Raises:
        InvalidSpec: a loss cannot compare these two networks.
    """
    _, student, teacher = stage.say(encoded[:2])
    learned = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for index, loss in enumerate(stage.losses):
            if teacher is None or not loss.needs_teacher:
                continue
            try:
                module = loss.prepare(student, teacher)
            except InvalidSpec as error:
                param = f"losses.{index}.{error.param}"
                message = f"{param}: {error.message}"
                raise InvalidSpec(message, param=param, code=error.error_code) from error
            if module is not None:
                learned[str(index)] = module
    return replace(stage, learned=learned.to(stage.device))


@torch.no_grad()
def check_objective(stage: Stage, encoded: Sequence[Encoded]) -> None:
    """Try losses that the spec names on two batches, before hours are spent on them.

    Two sizes, because a loss of the wrong shape may broadcast when rows and classes are as many.

    Raises:
        InvalidSpec: they cannot judge what the task's network puts out.
    """
    try:
        for size in (2, 3):
            stage.run(encoded[:size])
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        kinds = ", ".join(loss.name() for loss in stage.losses)
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        message = f"losses: {kinds} cannot judge the outputs of {stage.task.name()}: {reason}"
        raise InvalidSpec(message, param="losses") from error

"""The `multi_task` job: one encoder that is shared, and a head for each of several tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from app.adapt.plugins import AnyLoss, AnyTask
from app.errors import within
from app.kit.schema import Frozen
from app.spec.base import ModelId, Sides
from app.spec.choice import AutoMethod
from app.spec.data import Data
from app.spec.fine_tune import FineTune
from app.spec.training import Stepwise

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class Part(Frozen):
    """One of the tasks: its data, its objective, and what that counts for."""

    task: AnyTask
    data: Data
    weight: float = Field(default=1.0, gt=0, description="Of its loss in the sum.")
    losses: list[AnyLoss] | None = Field(
        default=None, min_length=1, description="Its objective; null: the task's own loss."
    )


class MultiTask(Stepwise):
    """Train `model` for all `tasks` together: the minimum of sum_k w_k L_k, with `optimization`'s penalty.

    Every step has rows of every task: of `optimization.batch_size` a share in proportion to the task's
    number of rows to the power of `sampling_exponent`.
    """

    kind: Literal["multi_task"] = "multi_task"
    model: ModelId = Field(
        description="The encoder: a base model or a finished one. Of a finished multi_task model the heads "
        "stay where `trunk` is frozen."
    )
    revision: str | None = Field(
        default=None, max_length=255,
        description="Hub revision; pinned to a commit when the job runs.",
    )  # fmt: skip
    tasks: dict[Name, Part] = Field(
        min_length=1, max_length=16,
        description='By the names that predict calls have: {"sentiment": {"task": ..., "data": ...}, ...}.',
    )  # fmt: skip
    weighting: Literal["fixed", "uncertainty", "pcgrad"] = Field(
        default="fixed",
        description="fixed: weights as given; uncertainty: learned beside them (Kendall et al. 2018); "
        "pcgrad: of two gradients in conflict, each loses its part along the other (Yu et al. 2020).",
    )
    sampling_exponent: float = Field(
        default=0.5, ge=0, le=1,
        description="1: rows of a step in proportion to the tasks' rows; 0: as many of each.",
    )  # fmt: skip
    trunk: Literal["trained", "frozen"] = Field(
        default="trained",
        description="frozen: heads alone are trained, so that those that the model has answer as before.",
    )

    @property
    def base(self) -> str:
        """The id of the model that the job starts from."""
        return self.model

    def part(self, name: str) -> FineTune:
        """Return the job that trains for one of the tasks alone."""
        part = self.tasks[name]
        return FineTune(
            model=self.model, revision=self.revision, task=part.task, data=part.data,
            losses=part.losses, method=self.method, optimization=self.optimization,
            runtime=self.runtime,
        )  # fmt: skip

    def model_ids(self) -> dict[str, str]:
        """Return the id of the model, by the field that names it."""
        return {"model": self.model}

    def sets(self) -> dict[str, Sides]:
        """Return the files of each task's sets, by the path of the field that names them."""
        return {
            f"tasks.{name}.data.{part}": sides
            for name, given in self.tasks.items()
            for part, sides in given.data.sets().items()
        }

    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """See `BaseSpec.check_set`."""
        _, name, own = field.split(".", 2)
        with within(f"tasks.{name}"):
            self.part(name).check_set(own, found, summary, filename)

    @model_validator(mode="after")
    def _check(self) -> Self:
        method = self.method
        if isinstance(method, AutoMethod) or not method.steps or method.probes:
            message = f"method {method.name()}: several tasks are trained together step by step: use 'full'"
            raise ValueError(message)
        if method.added_tokens:
            message = (
                f"method {method.name()} puts tokens before one task's texts: use 'full' or 'lora'"
            )
            raise ValueError(message)
        if self.optimization.label_smoothing or self.optimization.class_weights:
            message = (
                "optimization.label_smoothing and class_weights are set on the losses of each task: "
                'tasks.<name>.losses: [{"kind": "cross_entropy", "label_smoothing": 0.1}]'
            )
            raise ValueError(message)
        for name, part in self.tasks.items():
            if part.task.generates:
                message = f"tasks.{name}: {part.task.name()} writes text, and an encoder is what is shared"
                raise ValueError(message)
        if len(self.tasks) == 1 and self.trunk == "trained":
            message = (
                "tasks: name two or more; one alone is a job of kind 'fine_tune', or joins the heads of a "
                'finished multi_task model with "trunk": "frozen"'
            )
            raise ValueError(message)
        return self

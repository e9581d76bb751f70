"""What kinds of job share that ask a model and train none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from app.adapt.answering import parse_parameters
from app.adapt.plugins import AnyTask
from app.adapt.task import Task
from app.errors import InvalidRequest, InvalidSpec
from app.spec.base import BaseSpec, ModelId
from app.spec.optimization import Auto

CPU_TOKENS = 4_096
GPU_TOKENS = 16_384


class Answering(BaseSpec):
    """Ask `model`, which stays as it is."""

    model: ModelId = Field(
        description="A finished model (ft:...), a checkpoint (ckpt-...), or a base model that does the "
        "task as it is."
    )
    revision: str | None = Field(
        default=None, max_length=255, description="Hub revision of a base model."
    )
    task: AnyTask | None = Field(
        default=None,
        description="What is asked of a base model; finished models and checkpoints know it themselves.",
    )
    head: str | None = Field(
        default=None, max_length=64, description="Which task, of a model that does several."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Options of the model's task, as the predict route takes them."
    )
    max_batch_tokens: Annotated[int, Field(ge=4, le=1_000_000)] | Auto = Field(
        default="auto",
        description="Padded tokens that go through the network at once; auto: 4,096, on a GPU 16,384.",
    )

    @property
    def base(self) -> str:
        """The id of the model that is asked."""
        return self.model

    def model_ids(self) -> dict[str, str]:
        """Return the id of the model, by the field that names it."""
        return {"model": self.model}

    def knowing(self, tasks: Mapping[str, Task]) -> Self:
        """Take over the model's own task, and check what depends on it.

        `tasks` are those of the models that the job reads, by field. Base models are not among them: what
        those can do is seen when they are loaded.

        Raises:
            InvalidSpec: no task is known, the model does another one, or it does not know an option.
        """
        own = tasks.get("model")
        if own is None:
            known = self
        elif self.task is not None and self.task.name() != own.name():
            message = f"task: {self.model} does {own.name()}, not {self.task.name()}"
            raise InvalidSpec(message, param="task", code="model_does_not_fit")
        elif self.revision is not None:
            message = f"revision: {self.model} is no model of the Hub and has none; leave it out"
            raise InvalidSpec(message, param="revision", code="revision_not_found")
        else:
            self._check_fields(own)
            known = self.model_copy(update={"task": own})
        if known.task is None:
            message = f'task: {self.model} is a base model; say what it does, e.g. "fill-mask"'
            raise InvalidSpec(message, param="task", code="task_missing")
        try:
            parse_parameters(known.task, self.parameters)
        except InvalidRequest as error:
            raise InvalidSpec(error.message, param=error.param, code=error.error_code) from None
        return known

    def _check_fields(self, own: Task) -> None:
        """Refuse what the job says of the task where the model has learned it otherwise."""
        for name, value in self.task or ():
            default = type(own).model_fields[name].get_default(call_default_factory=True)
            if value not in (default, getattr(own, name)):
                param = f"task.{name}"
                message = f"{param}: {self.model} has learned {getattr(own, name)!r}; leave it out"
                raise InvalidSpec(message, param=param, code="model_does_not_fit")

    @property
    def known_task(self) -> Task:
        """The task, once it is known."""
        if self.task is None:
            message = "the task of the model has not been looked up"
            raise AssertionError(message)
        return self.task

    def batch_tokens(self, device: str) -> int:
        """Return the tokens of a batch on a kind of device.

        It does not depend on what memory is free: a run that goes on for another makes the same batches.
        """
        if self.max_batch_tokens == "auto":
            return CPU_TOKENS if device == "cpu" else GPU_TOKENS
        return self.max_batch_tokens

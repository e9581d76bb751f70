"""The `fine_tune` job: adapt one model to one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from app.adapt.plugins import STUDENTS
from app.adapt.student import Student
from app.spec.base import ModelId
from app.spec.choice import AutoMethod
from app.spec.training import Training
from app.spec.transfer import Features, Transfer

if TYPE_CHECKING:
    MadeModel = Student
else:
    MadeModel: Any = STUDENTS.union()


class FineTune(Training):
    """Train `model` for `task` on `data` by `method`."""

    kind: Literal["fine_tune"] = "fine_tune"
    model: ModelId | MadeModel = Field(
        description="The id of a base model, a finished model (ft:...) or a checkpoint (ckpt-...), or a "
        'network made for the job: {"kind": "bilstm", ...}.'
    )
    revision: str | None = Field(
        default=None,
        max_length=255,
        description="Hub revision; pinned to a commit when the job runs.",
    )
    transfer: Transfer = Field(
        default="parameters",
        description="parameters: all weights of the source; structure: its architecture and tokenizer; "
        'mixed: {"kind": "mixed", "layers": ["embeddings", "0-2"]}, the rest fresh; '
        'features: {"kind": "features", "models": [...]}, frozen, beside those of `model`.',
    )

    @property
    def base(self) -> str:
        """The id of the source, or the kind of network that is made."""
        return (
            self.model if isinstance(self.model, str) else self.model.source() or self.model.name()
        )

    def model_ids(self) -> dict[str, str]:
        """Return the id of every model that the job reads, by the field that names it."""
        found: dict[str, str] = {}
        if isinstance(self.model, str):
            found["model"] = self.model
        else:
            source = self.model.source()
            found |= {} if source is None else {"model.model": source}
            found |= {f"model.{field}": id_ for field, id_ in self.model.model_ids().items()}
        if isinstance(self.transfer, Features):
            found |= {f"transfer.models.{at}": id_ for at, id_ in enumerate(self.transfer.models)}
        return found

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        shorthand = self.optimization.label_smoothing or self.optimization.class_weights
        if self.losses is not None and shorthand:
            message = (
                "losses and optimization.label_smoothing or class_weights exclude each other; "
                "set them on the loss itself"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if isinstance(self.model, Student) and self.model.needs_teacher:
            message = (
                f"a {self.model.name()} is made of its teacher: submit a job of kind 'distill'"
            )
            raise ValueError(message)
        methods = self.method.candidates if isinstance(self.method, AutoMethod) else [self.method]
        if isinstance(self.transfer, Features):
            others = [method.name() for method in methods if not method.probes]
            if others:
                message = (
                    f"transfer 'features' fits a head on frozen features, which method {others[0]} does "
                    "not: use method 'linear_probe', or 'lp_ft' to go on with all weights"
                )
                raise ValueError(message)
            return self
        is_fresh = self.transfer != "parameters" or (
            isinstance(self.model, Student) and self.model.source() is None
        )
        frozen = [method.name() for method in methods if method.freezes]
        if is_fresh and frozen:
            given = self.transfer if isinstance(self.transfer, str) else self.transfer.kind
            made = isinstance(self.model, Student)
            what = "a network made for the job" if made else f"transfer '{given}'"
            message = (
                f"method {frozen[0]} keeps most weights as they are, and {what} "
                "makes them random: use transfer 'parameters' or method 'full'"
            )
            raise ValueError(message)
        return self

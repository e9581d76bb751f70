"""The `fine_tune` job: adapt one model to one task."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from app.adapt.plugins import METHODS, AnyLoss, AnyMethod, AnyTask
from app.spec.base import BaseSpec, ModelId
from app.spec.data import Data
from app.spec.optimization import Optimization
from app.spec.transfer import Transfer


class FineTune(BaseSpec):
    """Train `model` for `task` on `data` by `method`."""

    kind: Literal["fine_tune"] = "fine_tune"
    model: ModelId = Field(description="A base model's id, or a finished model's (ft:...).")
    revision: str | None = Field(
        default=None,
        max_length=255,
        description="Hub revision; pinned to a commit when the job runs.",
    )
    task: AnyTask
    data: Data
    method: AnyMethod = Field(default_factory=METHODS["full"])
    transfer: Transfer = Field(
        default="parameters",
        description="parameters: all weights of the source; structure: its architecture and tokenizer; "
        'mixed: {"kind": "mixed", "layers": ["embeddings", "0-2"]}, the rest fresh.',
    )
    losses: list[AnyLoss] | None = Field(
        default=None, min_length=1, description="The objective; null: the task's own loss."
    )
    optimization: Optimization = Optimization()

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        shorthand = self.optimization.label_smoothing or self.optimization.class_weights
        if self.losses is not None and shorthand:
            message = (
                "losses and optimization.label_smoothing or class_weights exclude each other; "
                "set them on the loss itself"
            )
            raise ValueError(message)
        if self.transfer != "parameters" and self.method.freezes:
            given = "structure" if isinstance(self.transfer, str) else self.transfer.kind
            message = (
                f"method {self.method.name()} keeps most weights as they are, and transfer "
                f"'{given}' makes them random: use transfer 'parameters' or method 'full'"
            )
            raise ValueError(message)
        return self

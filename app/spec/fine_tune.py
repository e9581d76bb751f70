"""The `fine_tune` job: adapt one model to one task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.adapt.plugins import METHODS, AnyLoss, AnyMethod, AnyTask
from app.spec.base import BaseSpec, ModelId
from app.spec.data import Data
from app.spec.optimization import Optimization


class FineTune(BaseSpec):
    """Train `model` for `task` on `data` by `method`."""

    kind: Literal["fine_tune"] = "fine_tune"
    model: ModelId = Field(description="A base model's id, or a finished model's (ft:...).")
    revision: str | None = Field(
        default=None, max_length=255, description="Hub revision; pinned to a commit when the job runs."
    )
    task: AnyTask
    data: Data
    method: AnyMethod = Field(default_factory=lambda: METHODS["full"]())
    transfer: Literal["parameters", "structure"] = Field(
        default="parameters", description="structure: the architecture only, with fresh weights."
    )
    losses: list[AnyLoss] | None = Field(
        default=None, description="The objective; null: the task's own loss."
    )
    optimization: Optimization = Optimization()

"""The loss contract: one weighted term of the objective L(y, f(x)) + λ·D(f, g)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from app.adapt.outputs import Batch, Outputs
from app.kit.registry import Plugin

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Plugin, ABC):
    """One term. Subclass it in one file under `losses/`; torch is imported inside `compute` only."""

    needs_teacher: ClassVar[bool] = False
    needs_whole_batch: ClassVar[bool] = False  # it compares rows: a batch cannot be cut into parts
    batch_size: ClassVar[int | None] = (
        None  # what "auto" stands for; None: by how many rows there are
    )

    weight: float = Field(default=1.0, ge=0, description="Factor of this term in the sum.")

    @abstractmethod
    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the unweighted scalar mean over the batch; padding never contributes."""

"""Hard-label cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs

IGNORED = -100


class CrossEntropy(Loss):
    """L = -1/n sum_i w[y_i] log softmax(z_i)[y_i]; with smoothing e, y becomes (1-e) y + e/C.

    n is the number of targets; those of -100 (padding) count nowhere. The sum is divided by n and not
    by the weights' sum, so that a batch gives one gradient however it is cut into parts. Source:
    Szegedy et al. 2016 (arXiv 1512.00567) section 7 for label smoothing.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: list[float] | None = Field(default=None, description="One factor a class.")

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over the targets that count; logits are (..., C), targets (...)."""
        del teacher
        import torch.nn.functional as F  # noqa: N812

        if batch.target is None:
            message = "cross_entropy needs targets"
            raise AssertionError(message)
        weights = None
        if self.class_weights is not None:
            weights = student.logits.new_tensor(self.class_weights)
        target = batch.target.flatten()
        total = F.cross_entropy(
            student.logits.flatten(0, -2),
            target,
            weight=weights,
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total / (target != IGNORED).sum().clamp(min=1)

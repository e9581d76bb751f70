"""Squared error of a predicted number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class MeanSquaredError(Loss):
    """L = mean_i (z_i - y_i)^2."""

    kind: Literal["mean_squared_error"] = "mean_squared_error"

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over the batch; logits are (B, 1), targets (B,)."""
        del teacher
        import torch.nn.functional as F  # noqa: N812

        if batch.target is None:
            message = "mean_squared_error needs targets"
            raise AssertionError(message)
        predicted_B = student.logits.squeeze(-1)
        if predicted_B.shape != batch.target.shape:  # torch would broadcast, and say so only
            message = f"one number an example is needed, not {tuple(student.logits.shape)}"
            raise ValueError(message)
        return F.mse_loss(predicted_B, batch.target)

"""Binary cross-entropy for any number of labels at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class BinaryCrossEntropy(Loss):
    """L = -mean_ic [ y_ic log s(z_ic) + (1 - y_ic) log(1 - s(z_ic)) ], s the logistic function.

    Padding has no label, so it counts nowhere. Source:
    `torch.nn.functional.binary_cross_entropy_with_logits`, from the logits for stability.
    """

    kind: Literal["binary_cross_entropy"] = "binary_cross_entropy"

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over all labels of all examples; logits and targets are (B, C)."""
        del teacher
        import torch.nn.functional as F  # noqa: N812

        if batch.target is None:
            message = "binary_cross_entropy needs targets"
            raise AssertionError(message)
        return F.binary_cross_entropy_with_logits(student.logits, batch.target)

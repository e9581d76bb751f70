"""Cross-entropy of where a span begins and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs

SIDES = 2


class SpanCrossEntropy(Loss):
    """L = -1/(2B) sum_b log softmax_t(z_bt1)[first_b] + log softmax_t(z_bt2)[last_b].

    Source: Devlin et al. 2019 (arXiv 1810.04805), section 4.2.
    """

    kind: Literal["span_cross_entropy"] = "span_cross_entropy"

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean; logits are (B, T, 2), targets token positions (B, 2)."""
        del teacher
        import torch.nn.functional as F  # noqa: N812

        target = batch.target
        if target is None or student.logits.ndim != 3 or target.shape[-1:] != (SIDES,):  # noqa: PLR2004
            message = "span_cross_entropy needs logits (B, T, 2) and targets (B, 2)"
            raise ValueError(message)
        return F.cross_entropy(student.logits, target)

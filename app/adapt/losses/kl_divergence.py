"""The teacher's answers as soft targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss, taught
from app.adapt.schedule import Positive, number

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class KlDivergence(Loss):
    """L = T^2/n sum_i KL(softmax(g_i / T) || softmax(f_i / T)), f student, g teacher, T > 0.

    n answers: one a row, one a token, or the mean of a span's two ends; labels that hold or not are
    summed, each with its two outcomes. Of a vocabulary, the teacher's K likeliest tokens and one share for
    all others are compared (`app.adapt.layers.top_tokens`). Tokens that are padding or have no target
    (-100) do not count. T^2 keeps the gradient's size. Source: Hinton et al. 2015 (arXiv 1503.02531), 2.
    """

    needs_teacher: ClassVar[bool] = True

    kind: Literal["kl_divergence"] = "kl_divergence"
    temperature: Positive = Field(default=1.0, description="Above 1, small shares count for more.")

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over answers; logits are classes, labels or spans of any shape."""
        from app.adapt.layers.answers import log_shares, mean_divergence

        temperature = number(self.temperature)
        log_f, log_g = log_shares(student, taught(teacher), temperature)
        return temperature**2 * mean_divergence(log_g.exp() * (log_g - log_f), student, batch)

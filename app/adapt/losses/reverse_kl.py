"""The student's answers judged by the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss, taught
from app.adapt.schedule import Positive, number

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class ReverseKl(Loss):
    """L = T^2/n sum_i KL(softmax(f_i / T) || softmax(g_i / T)), f student, g teacher, T > 0.

    It makes the student drop what it cannot do rather than spread over all that the teacher does. n, and
    what is masked: as in `kl_divergence`. Source: Gu et al. 2023, MiniLLM (arXiv 2306.08543), here
    on the answers of the data instead of on ones that the student wrote.
    """

    needs_teacher: ClassVar[bool] = True

    kind: Literal["reverse_kl"] = "reverse_kl"
    temperature: Positive = Field(default=1.0, description="Above 1, small shares count for more.")

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over answers; logits are classes, labels or spans of any shape."""
        from app.adapt.layers.answers import log_shares, mean_divergence

        temperature = number(self.temperature)
        log_f, log_g = log_shares(student, taught(teacher), temperature)
        return temperature**2 * mean_divergence(log_f.exp() * (log_f - log_g), student, batch)

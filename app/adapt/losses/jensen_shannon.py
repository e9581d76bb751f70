"""Student and teacher against their mixture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss, taught
from app.adapt.schedule import Positive, number

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class JensenShannon(Loss):
    """L = T^2/n sum_i b KL(p_g || m) + (1 - b) KL(p_f || m), m = b p_g + (1 - b) p_f, b in (0, 1).

    p are the shares at temperature T > 0, f student, g teacher. L / b tends to KL(p_g || p_f) for b to 0
    and L / (1 - b) to KL(p_f || p_g) for b to 1; at T = 1 an answer costs at most log 2, however sure both
    are. n, and what is masked: as in `kl_divergence`. Source: Agarwal et al. 2023, GKD (arXiv 2306.13649),
    section 2, where P is the teacher.
    """

    needs_teacher: ClassVar[bool] = True

    kind: Literal["jensen_shannon"] = "jensen_shannon"
    beta: float = Field(default=0.5, gt=0, lt=1, description="The teacher's share of the mixture.")
    temperature: Positive = Field(default=1.0, description="Above 1, small shares count for more.")

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over answers; logits are classes, labels or spans of any shape."""
        import torch

        from app.adapt.layers.answers import log_shares, mean_divergence

        temperature, beta = number(self.temperature), self.beta
        log_f, log_g = log_shares(student, taught(teacher), temperature)
        log_m = torch.logaddexp(log_g + math.log(beta), log_f + math.log1p(-beta))
        terms = beta * log_g.exp() * (log_g - log_m) + (1 - beta) * log_f.exp() * (log_f - log_m)
        return temperature**2 * mean_divergence(terms, student, batch)

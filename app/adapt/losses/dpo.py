"""Direct preference optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs

NDIM = 4


class Dpo(Loss):
    """L = -1/B sum_b (1-e) log sigmoid(beta m_b) + e log sigmoid(-beta m_b), m the margin of rewards.

    A reward is log pi(y|x) - log pi_ref(y|x), summed over the answer's tokens; without
    `batch.others["reference"]` (B, 2) the reference is uniform. Source: Rafailov et al. 2023 (arXiv
    2305.18290), eq. 7; e (labels that may be wrong): Mitchell 2023, "A note on DPO with noisy preferences".
    """

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0, description="How dear it is to leave the reference.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean; logits are (B, 2, T, V), the chosen answer first, targets (B, 2, T)."""
        del teacher
        import torch.nn.functional as F  # noqa: N812

        from app.adapt.layers.language import sequence_log_probabilities

        if batch.target is None or student.logits.ndim != NDIM:
            message = "dpo needs logits (B, 2, T, V) and targets (B, 2, T): pairs of answers"
            raise ValueError(message)
        rewards_B2 = sequence_log_probabilities(student.logits, batch.target)
        if "reference" in batch.others:
            rewards_B2 = rewards_B2 - batch.others["reference"]
        margin_B = self.beta * (rewards_B2[:, 0] - rewards_B2[:, 1])
        smoothing = self.label_smoothing
        terms_B = (1 - smoothing) * F.logsigmoid(margin_B) + smoothing * F.logsigmoid(-margin_B)
        return -terms_B.mean()

"""Texts of one label towards each other, and away from the rest of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class SupervisedContrastive(Loss):
    """L = -1/N sum_i 1/|P(i)| sum_{p in P(i)} log exp(cos(i, p)/t) / sum_{a != i} exp(cos(i, a)/t).

    N anchors i; P(i) are the other texts of i's label in the batch; anchors without one do not count.
    Source: Khosla et al. 2020 (arXiv 2004.11362), eq. 2.
    """

    needs_whole_batch: ClassVar[bool] = True
    # Of 77 labels with 8 rows each, three of four rows find another of theirs; of 16, one of six does.
    batch_size: ClassVar[int | None] = 128

    kind: Literal["supervised_contrastive"] = "supervised_contrastive"
    temperature: float = Field(default=0.1, gt=0)

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean; logits are vectors (B, S, D), of which the first counts; targets labels (B,)."""
        del teacher
        import torch
        import torch.nn.functional as F  # noqa: N812

        if student.logits.ndim != 3 or batch.target is None:  # noqa: PLR2004
            message = "supervised_contrastive needs vectors (B, S, D) and labels (B,)"
            raise ValueError(message)
        vectors_BD = F.normalize(student.logits[:, 0], dim=-1)
        itself_BB = torch.eye(len(vectors_BD), dtype=torch.bool, device=vectors_BD.device)
        logits_BB = (vectors_BD @ vectors_BD.T / self.temperature).masked_fill(itself_BB, -1e9)
        positive_BB = (batch.target[:, None] == batch.target[None, :]) & ~itself_BB
        log_shares_BB = F.log_softmax(logits_BB, dim=-1)
        counts_B = positive_BB.sum(-1)
        terms_B = -(log_shares_BB * positive_BB).sum(-1) / counts_B.clamp(min=1)
        return terms_B.sum() / (counts_B > 0).sum().clamp(min=1)

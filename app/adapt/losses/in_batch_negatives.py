"""Cross-entropy over the batch: of all texts in it, which one belongs to the anchor?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class InBatchNegatives(Loss):
    """L = -1/B sum_i log exp(s cos(a_i, p_i)) / sum_j exp(s cos(a_i, c_j)).

    c are the positives of the whole batch, and its hard negatives where rows have three texts. Another
    row's positive that is the same text (equal targets) counts as no negative. Source: Henderson et al.
    2017 (arXiv 1705.00652), section 4.4; with the scale of Reimers & Gurevych's sentence-transformers.
    """

    needs_whole_batch: ClassVar[bool] = True

    kind: Literal["in_batch_negatives"] = "in_batch_negatives"
    scale: float = Field(default=20.0, gt=0, description="The inverse of the temperature.")

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean; logits are vectors (B, S, D) with S 2 or 3, targets numbers (B,)."""
        del teacher
        import torch
        import torch.nn.functional as F  # noqa: N812

        vectors_BSD = F.normalize(student.logits, dim=-1)
        if vectors_BSD.ndim != 3 or vectors_BSD.shape[1] < 2 or batch.target is None:  # noqa: PLR2004
            message = "in_batch_negatives needs vectors (B, S, D) of pairs or triplets"
            raise ValueError(message)
        anchors_BD, others_BSD = vectors_BSD[:, 0], vectors_BSD[:, 1:]
        candidates_MD = others_BSD.transpose(0, 1).flatten(0, 1)
        logits_BM = self.scale * anchors_BD @ candidates_MD.T
        rows = torch.arange(len(anchors_BD), device=logits_BM.device)
        same_BB = batch.target[:, None] == batch.target[None, :]
        same_BB = same_BB & (rows[:, None] != rows[None, :])
        hidden_BM = F.pad(same_BB, (0, logits_BM.shape[1] - len(rows)))
        return F.cross_entropy(logits_BM.masked_fill(hidden_BM, -torch.inf), rows)

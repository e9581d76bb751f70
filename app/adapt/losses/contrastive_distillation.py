"""Of all of the teacher's vectors in the batch, which one is of the student's text?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss, taught
from app.adapt.schedule import Positive, number

if TYPE_CHECKING:
    from torch import Tensor, nn

    from app.adapt.outputs import Batch, Outputs

SAME = 1 - 1e-5  # cosine from which two vectors are of the same text, up to rounding


class ContrastiveDistillation(Loss):
    """L = -1/n sum_i log exp(cos(W f_i, g_i) / t) / sum_{j in N(i)} exp(cos(W f_i, g_j) / t), t > 0.

    f and g are the vectors of the batch's n texts by student and teacher. N(i) is i and the texts of other
    rows, but for those whose teacher's vector is the same: a text is no negative of itself. A text that
    a row has not counts nowhere. W is learned where the widths differ. Source: Tian et al. 2020, CRD
    (arXiv 1910.10699), with the batch for its memory, which is InfoNCE of van den Oord et al. 2018 (arXiv
    1807.03748).
    """

    needs_teacher: ClassVar[bool] = True
    needs_whole_batch: ClassVar[bool] = True

    kind: Literal["contrastive_distillation"] = "contrastive_distillation"
    temperature: Positive = Field(
        default=0.05, description="Below 1, near negatives count for more."
    )

    def prepare(self, student: Outputs, teacher: Outputs) -> nn.Module | None:
        """Return the projection of vectors whose widths differ."""
        from app.adapt.layers.projection import project_vectors

        return project_vectors(student, teacher)

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over the texts; logits are vectors (B, S, D)."""
        del batch
        import torch
        import torch.nn.functional as F  # noqa: N812

        from app.adapt.layers.states import paired_vectors

        ours_BSD, theirs_BSD, exists_BS = paired_vectors(student, taught(teacher))
        ours_ND = F.normalize(ours_BSD, dim=-1).flatten(0, 1)
        theirs_ND = F.normalize(theirs_BSD, dim=-1).flatten(0, 1)
        exists_N = exists_BS.flatten()
        places = torch.arange(len(exists_N), device=exists_N.device)
        rows = places // exists_BS.shape[1]
        hidden_NN = (rows[:, None] == rows) | (theirs_ND @ theirs_ND.T > SAME) | ~exists_N
        hidden_NN = hidden_NN & (places[:, None] != places)
        logits_NN = ours_ND @ theirs_ND.T / number(self.temperature)
        logits_NN = logits_NN.masked_fill(hidden_NN, -torch.inf)
        terms_N = F.cross_entropy(logits_NN, places, reduction="none")
        return torch.where(exists_N, terms_N, 0.0).sum() / exists_N.sum().clamp(min=1)

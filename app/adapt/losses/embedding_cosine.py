"""The student's vector of a text towards the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Loss, taught

if TYPE_CHECKING:
    from torch import Tensor, nn

    from app.adapt.outputs import Batch, Outputs


class EmbeddingCosine(Loss):
    """L = 1/n sum_i 1 - cos(W f_i, g_i); with `distance` mse, 1/n sum_i |W f_i - g_i|^2 / D.

    f and g are the vectors of n texts by student and teacher, each as its row's mean; a text that a row
    has not counts nowhere. W is learned where the widths differ, and thrown away: the student's own vectors
    are then like the teacher's up to a linear map. Source: Reimers & Gurevych 2020 (arXiv 2004.09813),
    section 2, which has mse.
    """

    needs_teacher: ClassVar[bool] = True

    kind: Literal["embedding_cosine"] = "embedding_cosine"
    distance: Literal["cosine", "mse"] = Field(
        default="cosine", description="mse also matches the vectors' lengths."
    )

    def prepare(self, student: Outputs, teacher: Outputs) -> nn.Module | None:
        """Return the projection of vectors whose widths differ."""
        from app.adapt.layers.projection import project_vectors

        return project_vectors(student, teacher)

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over the rows; logits are vectors (B, S, D)."""
        import torch.nn.functional as F  # noqa: N812

        from app.adapt.layers.answers import mean_of_tokens
        from app.adapt.layers.states import paired_vectors

        ours_BSD, theirs_BSD, exists_BS = paired_vectors(student, taught(teacher))
        if self.distance == "cosine":
            terms_BS = 1 - F.cosine_similarity(ours_BSD, theirs_BSD, dim=-1)
        else:
            terms_BS = (ours_BSD - theirs_BSD).square().mean(-1)
        return mean_of_tokens(terms_BS, exists_BS, batch)

"""The cosine of two texts against their score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.adapt.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class CosineSimilarity(Loss):
    """L = 1/B sum_i (cos(a_i, b_i) - y_i)^2, y in 0 to 1.

    Source: Reimers & Gurevych 2019 (arXiv 1908.10084), the regression objective.
    """

    kind: Literal["cosine_similarity"] = "cosine_similarity"

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean; logits are vectors (B, 2, D), targets scores (B,)."""
        del teacher
        import torch.nn.functional as F  # noqa: N812

        vectors_B2D = student.logits
        if vectors_B2D.ndim != 3 or vectors_B2D.shape[1] != 2 or batch.target is None:  # noqa: PLR2004
            message = "cosine_similarity needs vectors (B, 2, D) and scores (B,)"
            raise ValueError(message)
        cosines_B = F.cosine_similarity(vectors_B2D[:, 0], vectors_B2D[:, 1], dim=-1)
        return F.mse_loss(cosines_B, batch.target.to(cosines_B.dtype))

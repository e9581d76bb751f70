"""The student's hidden states towards the teacher's, by their angle."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Layers, Loss, taught

if TYPE_CHECKING:
    from torch import Tensor, nn

    from app.adapt.outputs import Batch, Outputs


class HiddenCosine(Loss):
    """L = 1/(|M| n) sum_{(s,t) in M} sum_i 1 - cos(W_s f_si, g_ti), f and g states of student and teacher.

    W_s is learned, and only there where the widths differ. i runs over a sequence's tokens, padding left
    out, n is their number; a sequence counts by its share of targets. Source: Sanh et al. 2019,
    DistilBERT (arXiv 1910.01108), section 2, the cosine embedding loss of the last layer.
    """

    needs_teacher: ClassVar[bool] = True
    needs_hidden: ClassVar[bool] = True
    same_tokens: ClassVar[bool] = True

    kind: Literal["hidden_cosine"] = "hidden_cosine"
    layers: Layers = Field(
        default="last", description="auto, last, or pairs [student, teacher]; 0: the embeddings."
    )

    def prepare(self, student: Outputs, teacher: Outputs) -> nn.Module | None:
        """Return the projections of layers whose widths differ."""
        from app.adapt.layers.projection import project_states

        return project_states(self.layers, student, teacher)

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over pairs of layers, and over sequences."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        from app.adapt.layers.answers import mean_of_tokens
        from app.adapt.layers.states import paired_states

        means = [
            mean_of_tokens(1 - F.cosine_similarity(ours, theirs, dim=-1), batch.mask_BT != 0, batch)
            for ours, theirs in paired_states(self.layers, student, taught(teacher))
        ]
        return torch.stack(means).mean()

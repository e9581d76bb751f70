"""The student's hidden states towards the teacher's, by squared distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Layers, Loss, taught

if TYPE_CHECKING:
    from torch import Tensor, nn

    from app.adapt.outputs import Batch, Outputs


class HiddenMse(Loss):
    """L = 1/(|M| n) sum_{(s,t) in M} sum_i d(W_s f_si, g_ti), f and g the states of student and teacher.

    d(a, b) = |a - b|^2 / H; with `normalize`, |a/|a| - b/|b||^2. W_s is learned, and only there where the
    widths differ. i runs over a sequence's tokens or its first one, padding left out, n is their number;
    a sequence counts by its share of targets. The papers sum over M. Source: Jiao et al. 2020, TinyBERT
    (arXiv 1909.10351), L_hidn; normalized: Sun et al. 2019, PKD (arXiv 1908.09355), L_PT.
    """

    needs_teacher: ClassVar[bool] = True
    needs_hidden: ClassVar[bool] = True
    same_tokens: ClassVar[bool] = True

    kind: Literal["hidden_mse"] = "hidden_mse"
    layers: Layers = Field(
        default="auto", description="auto, last, or pairs [student, teacher]; 0: the embeddings."
    )
    normalize: bool = Field(default=False, description="Compare directions only.")
    tokens: Literal["all", "first"] = Field(default="all", description="first: as PKD has it.")

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

        end = 1 if self.tokens == "first" else None
        means: list[Tensor] = []
        for ours_NTH, theirs_NTH in paired_states(self.layers, student, taught(teacher)):
            a_NTH, b_NTH = ours_NTH[:, :end], theirs_NTH[:, :end]
            if self.normalize:
                a_NTH, b_NTH = F.normalize(a_NTH, dim=-1), F.normalize(b_NTH, dim=-1)
            squares_NTH = (a_NTH - b_NTH).square()
            terms_NT = squares_NTH.sum(-1) if self.normalize else squares_NTH.mean(-1)
            means.append(mean_of_tokens(terms_NT, batch.mask_BT[:, :end] != 0, batch))
        return torch.stack(means).mean()

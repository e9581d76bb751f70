"""Where the student looks towards where the teacher looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Layers, Loss, taught

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs


class AttentionTransfer(Loss):
    """L = 1/(|M| A n) sum_{(s,t) in M} sum_a sum_i d(f_sai, g_tai), f and g attention of token i by head a.

    mse: d(p, q) = |p - q|^2 / n; kl: d(p, q) = KL(q || p). i runs over a sequence's n tokens, padding left
    out on both sides; a sequence counts by its share of targets. Where the numbers of heads differ, their
    means are compared. Source: Jiao et al. 2020, TinyBERT (arXiv 1909.10351), L_attn, there before the
    softmax and summed over M; kl: Wang et al. 2020, MiniLM (arXiv 2002.10957), L_AT.
    """

    needs_teacher: ClassVar[bool] = True
    needs_attentions: ClassVar[bool] = True
    same_tokens: ClassVar[bool] = True

    kind: Literal["attention_transfer"] = "attention_transfer"
    layers: Layers = Field(
        default="auto", description="auto, last, or pairs [student, teacher]; 1: the first block."
    )
    measure: Literal["mse", "kl"] = "mse"

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """See whether the layers are there."""
        from app.adapt.layers.mapping import layer_pairs
        from app.adapt.layers.states import attentions_of

        ours, theirs = attentions_of(student), attentions_of(teacher)
        layer_pairs(self.layers, len(ours), len(theirs), first=1)

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over pairs of layers, and over sequences."""
        import torch

        from app.adapt.layers.answers import mean_of_tokens
        from app.adapt.layers.states import paired_attentions

        counts_NT = batch.mask_BT != 0
        keys_N11T = counts_NT[:, None, None, :]
        means: list[Tensor] = []
        for p_NATT, q_NATT in paired_attentions(self.layers, student, taught(teacher)):
            if self.measure == "mse":
                terms_NATT = (p_NATT - q_NATT).square() / counts_NT.sum(1)[:, None, None, None]
            else:
                tiny = torch.finfo(p_NATT.dtype).tiny  # 0 where a token may not look
                log_p_NATT, log_q_NATT = p_NATT.clamp(min=tiny).log(), q_NATT.clamp(min=tiny).log()
                terms_NATT = q_NATT * (log_q_NATT - log_p_NATT)
            terms_NT = torch.where(keys_N11T, terms_NATT, 0.0).sum(-1).mean(1)
            means.append(mean_of_tokens(terms_NT, counts_NT, batch))
        return torch.stack(means).mean()

"""How tokens relate to each other inside of attention, whatever the numbers of heads and widths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from app.adapt.loss import Layers, Loss, taught
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.outputs import Batch, Outputs

MOST_HEADS, NARROWEST = 64, 8
RELATIONS = 3  # of queries, of keys, of values


class MinilmRelations(Loss):
    """L = 1/|M| sum_{(s,t) in M} sum_{v in q,k,v} 1/(A n) sum_a sum_i KL(R(g_tv)_ai || R(f_sv)_ai).

    R(v)_a = softmax(v_a v_a^T / sqrt(d)), v_a one of A equal parts, d numbers each, of a block's queries,
    keys or values. i runs over a sequence's n tokens, padding left out on both sides; a sequence counts by
    its share of targets. A auto: as many parts, up to 64, as divide all widths and leave each 8 numbers;
    the paper took 48 and 64. Source: Wang et al. 2021, MiniLMv2 (arXiv 2012.15828), section 3; its student
    learns from the teacher's last block, or of a large teacher from one a few below.
    """

    needs_teacher: ClassVar[bool] = True
    needs_relations: ClassVar[bool] = True
    same_tokens: ClassVar[bool] = True

    kind: Literal["minilm_relations"] = "minilm_relations"
    layers: Layers = Field(
        default="last", description="auto, last, or pairs [student, teacher]; 1: the first block."
    )
    relation_heads: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """See whether the layers are there, and whether the parts divide their widths."""
        from app.adapt.layers.mapping import layer_pairs
        from app.adapt.layers.states import relations_of

        ours, theirs = relations_of(student), relations_of(teacher)
        for low, high in layer_pairs(self.layers, len(ours), len(theirs), first=1):
            widths = [part.shape[-1] for part in (*ours[low - 1], *theirs[high - 1])]
            if self.relation_heads != "auto" and math.gcd(*widths) % self.relation_heads:
                common = math.gcd(*widths)
                message = f"{self.relation_heads} does not divide the common width; it must divide {common}"
                raise InvalidSpec(message, param="relation_heads")

    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the mean over pairs of layers, and over sequences."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        from app.adapt.layers.answers import mean_of_tokens
        from app.adapt.layers.states import paired_relations

        counts_NT = batch.mask_BT != 0
        padding_N11T = ~counts_NT[:, None, None, :]

        def log_relations(v_NTH: Tensor, heads: int) -> Tensor:
            v_NATD = v_NTH.unflatten(-1, (heads, -1)).transpose(1, 2)
            scores_NATT = v_NATD @ v_NATD.transpose(2, 3) / math.sqrt(v_NATD.shape[-1])
            shares_NATT = F.log_softmax(scores_NATT.masked_fill(padding_N11T, -torch.inf), dim=-1)
            return shares_NATT.masked_fill(padding_N11T, 0.0)

        means: list[Tensor] = []
        for ours_NTH, theirs_NTH in paired_relations(self.layers, student, taught(teacher)):
            heads = self._heads(ours_NTH.shape[-1], theirs_NTH.shape[-1])
            log_p_NATT = log_relations(ours_NTH, heads)
            log_q_NATT = log_relations(theirs_NTH, heads)
            terms_NATT = log_q_NATT.exp() * (log_q_NATT - log_p_NATT)
            means.append(mean_of_tokens(terms_NATT.sum(-1).mean(1), counts_NT, batch))
        return RELATIONS * torch.stack(means).mean()

    def _heads(self, *widths: int) -> int:
        if self.relation_heads != "auto":
            return self.relation_heads
        common, most = math.gcd(*widths), min(MOST_HEADS, min(widths) // NARROWEST)
        return max((n for n in range(1, most + 1) if common % n == 0), default=1)

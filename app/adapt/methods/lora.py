"""LoRA: every linear layer of the base gets a small trained update; the base itself stays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from app.adapt.method import Method, full_learning_rate
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from torch import nn


class Lora(Method):
    """Train low-rank updates of all linear layers, and the head; merged into the weights at the end.

    Source: Hu et al. 2022 (arXiv 2106.09685); the scale alpha / sqrt(rank) is Kalajdzievski 2023
    (arXiv 2312.03732), which keeps the size of the update the same at every rank. With `quantize` it is
    QLoRA, Dettmers et al. 2023 (arXiv 2305.14314): the updates learn to make good what 4 bits lose, so
    they are merged into the weights that the bits stand for, not into those of before.
    """

    freezes: ClassVar[bool] = True
    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=8.0, gt=0, description="Size of the update; see rank_stabilized.")
    dropout: float = Field(default=0.05, ge=0, lt=1)
    rank_stabilized: bool = Field(
        default=True, description="Scale by alpha / sqrt(rank); false: alpha / rank, as in 2021."
    )
    quantize: Literal["nf4"] | None = Field(
        default=None,
        description="nf4: the layers' own weights in 4 bits while it trains (QLoRA); needs a GPU.",
    )

    def learning_rate(self, num_parameters: int, full: float | None = None) -> float:
        """Ten times what `full` takes, as is usual, up to 1e-3."""
        return min(1e-3, 10 * (full or full_learning_rate(num_parameters)))

    def prepare(self, network: nn.Module) -> nn.Module:
        """Freeze the base and wrap its linear layers.

        Raises:
            InvalidSpec: the network has no linear layers in numbered blocks.
            TrainingFailed: `quantize`, and this worker has no GPU or no bitsandbytes.
        """
        from app.adapt.layers.depth import head_names
        from app.adapt.layers.lora import add_low_rank
        from app.adapt.layers.nf4 import check_hardware

        is_nf4 = self.quantize == "nf4"
        if is_nf4:
            check_hardware()
        head = head_names(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in head)
        scale = self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)
        if not add_low_rank(
            network, rank=self.rank, scale=scale, dropout=self.dropout, is_nf4=is_nf4
        ):
            message = "method lora: this model has no linear layers in blocks; use full"
            raise InvalidSpec(message, param="method", code="method_does_not_fit")
        return network

    def finish(self, network: nn.Module) -> nn.Module:
        """Merge the updates: what is saved is a network like any other.

        Weights that were in 4 bits take their full size again, on the CPU where the GPU cannot hold them.
        """
        from app.adapt.layers.lora import merge_low_rank
        from app.adapt.layers.nf4 import make_room

        make_room(network)
        return merge_low_rank(network)

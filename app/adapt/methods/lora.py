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
    (arXiv 2312.03732), which keeps the size of the update the same at every rank.
    """

    freezes: ClassVar[bool] = True
    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=8.0, gt=0, description="Size of the update; see rank_stabilized.")
    dropout: float = Field(default=0.05, ge=0, lt=1)
    rank_stabilized: bool = Field(
        default=True, description="Scale by alpha / sqrt(rank); false: alpha / rank, as in 2021."
    )

    def learning_rate(self, num_parameters: int, full: float | None = None) -> float:
        """Ten times what `full` takes, as is usual, up to 1e-3."""
        return min(1e-3, 10 * (full or full_learning_rate(num_parameters)))

    def prepare(self, network: nn.Module) -> nn.Module:
        """Freeze the base and wrap its linear layers.

        Raises:
            InvalidSpec: the network has no linear layers in numbered blocks.
        """
        from app.adapt.layers.depth import head_names
        from app.adapt.layers.lora import add_low_rank

        head = head_names(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in head)
        scale = self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)
        if not add_low_rank(network, rank=self.rank, scale=scale, dropout=self.dropout):
            message = "method lora: this model has no linear layers in blocks; use full"
            raise InvalidSpec(message, param="method", code="method_does_not_fit")
        return network

    def finish(self, network: nn.Module) -> nn.Module:
        """Merge the updates: what is saved is a network like any other."""
        from app.adapt.layers.lora import merge_low_rank

        return merge_low_rank(network)

"""ULMFiT's gradual unfreezing: the head first, then one block after the other from the top down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from app.adapt.method import Method

if TYPE_CHECKING:
    from torch import nn


class GradualUnfreezing(Method):
    """Open the network from the top down while it trains, lower layers with smaller rates.

    Source: Howard & Ruder 2018 (arXiv 1801.06146, 3.2 and 3.3), who open one layer an epoch and divide the
    rate by 2.6 a layer of an LSTM; for transformers 0.9 to 0.95 a layer is usual.
    """

    kind: Literal["gradual_unfreezing"] = "gradual_unfreezing"
    layer_decay: float = Field(
        default=0.95, gt=0, le=1, description="Rate of a layer as a share of that above it."
    )
    open_by: float = Field(
        default=0.5, gt=0, le=1, description="Share of the training by which everything is open."
    )

    def parameter_groups(
        self, network: nn.Module, *, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return the groups of each depth, the top first."""
        from app.adapt.layers.depth import groups_by_depth

        return groups_by_depth(
            network,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            layer_decay=self.layer_decay,
        )

    def before_step(self, network: nn.Module, *, fraction: float) -> None:
        """Freeze what lies below the lowest open layer; a frozen weight has no gradient and stays."""
        from app.adapt.layers.depth import depths

        depth = depths(network)
        top = max(depth.values())
        lowest = top - int(min(1.0, fraction / self.open_by) * top)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(depth[name] >= lowest)

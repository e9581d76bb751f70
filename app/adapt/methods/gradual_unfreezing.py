"""ULMFiT's gradual unfreezing: the head first, then one block after the other from the top down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from app.adapt.method import LayerwiseMethod

if TYPE_CHECKING:
    from torch import nn


class GradualUnfreezing(LayerwiseMethod):
    """Open the network from the top down while it trains, lower layers with smaller rates.

    Source: Howard & Ruder 2018 (arXiv 1801.06146, 3.2 and 3.3), who open one layer an epoch and divide the
    rate by 2.6 a layer of an LSTM; for transformers 0.9 to 0.95 a layer is usual.
    """

    kind: Literal["gradual_unfreezing"] = "gradual_unfreezing"
    open_by: float = Field(
        default=0.5, gt=0, le=1, description="Share of the training by which everything is open."
    )

    def before_step(self, network: nn.Module, *, fraction: float) -> None:
        """Freeze what lies below the lowest open layer; a frozen weight has no gradient and stays."""
        from app.adapt.layers.depth import depths

        depth = depths(network)
        top = max(depth.values())
        lowest = top - int(min(1.0, fraction / self.open_by) * top)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(depth[name] >= lowest)

"""Full fine-tuning with smaller steps further down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from app.adapt.method import Method

if TYPE_CHECKING:
    from torch import nn


class LayerwiseLr(Method):
    """Train all weights; each layer's rate is a share of that above it.

    Source: Howard & Ruder 2018 (arXiv 1801.06146, 3.2), "discriminative fine-tuning". For transformers,
    Clark et al. 2020 (arXiv 2003.10555) take 0.8 to 0.9 a layer of ELECTRA; 0.9 to 0.95 is usual.
    """

    kind: Literal["layerwise_lr"] = "layerwise_lr"
    layer_decay: float = Field(
        default=0.95, gt=0, le=1, description="Rate of a layer as a share of that above it."
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

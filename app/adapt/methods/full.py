"""Full fine-tuning: every weight trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from app.adapt.method import Method, full_learning_rate

if TYPE_CHECKING:
    from torch import nn


class Full(Method):
    """Train all weights; biases and normalization weights are not decayed."""

    kind: Literal["full"] = "full"

    def learning_rate(self, num_parameters: int) -> float:
        """See `full_learning_rate`."""
        return full_learning_rate(num_parameters)

    def prepare(self, network: nn.Module) -> nn.Module:
        """Let everything train."""
        return network.requires_grad_(requires_grad=True)

    def parameter_groups(
        self, network: nn.Module, *, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return two groups: matrices with decay, vectors (biases, normalization) without."""
        from app.adapt.layers.depth import decay_groups

        return decay_groups(
            network.parameters(), learning_rate=learning_rate, weight_decay=weight_decay
        )

"""Full fine-tuning: every weight trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from app.adapt.method import Method

if TYPE_CHECKING:
    from torch import nn

SMALL = 60_000_000
LARGE = 250_000_000


class Full(Method):
    """Train all weights; biases and normalization weights are not decayed."""

    kind: Literal["full"] = "full"

    def learning_rate(self, num_parameters: int) -> float:
        """Smaller networks take larger steps.

        Source: Devlin et al. 2019 (arXiv 1810.04805, A.3) search 2e-5 to 5e-5 for BERT-base, Turc
        et al. 2019 (arXiv 1908.08962) 3e-5 to 3e-4 for compact ones; 1e-5 is usual for large ones.
        """
        if num_parameters < SMALL:
            return 1e-4
        return 3e-5 if num_parameters < LARGE else 1e-5

    def prepare(self, network: nn.Module) -> nn.Module:
        """Let everything train."""
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        return network

    def parameter_groups(
        self, network: nn.Module, *, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return two groups: matrices with decay, vectors (biases, normalization) without."""
        from app.adapt.layers.depth import decay_groups

        return decay_groups(
            network.parameters(), learning_rate=learning_rate, weight_decay=weight_decay
        )

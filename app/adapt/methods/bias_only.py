"""BitFit: the biases and the head train, every matrix of the base stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from app.adapt.method import SMALL, Method
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from torch import nn


class BiasOnly(Method):
    """Train the biases, and all that lies above the last block (head, pooler).

    Source: Ben Zaken et al. 2022, "BitFit" (arXiv 2106.10199).
    """

    freezes: ClassVar[bool] = True
    kind: Literal["bias_only"] = "bias_only"

    def learning_rate(self, num_parameters: int, full: float | None = None) -> float:
        """Ten times what full fine-tuning takes: there is less to move.

        Source: Ben Zaken et al. 2022, A.2 (1e-4 to 1e-3 for BERT-base and -large); higher for compact
        networks, as in `full`.
        """
        if full is not None:
            return 10 * full
        return 1e-3 if num_parameters < SMALL else 4e-4

    def prepare(self, network: nn.Module) -> nn.Module:
        """Freeze all but biases and top.

        Raises:
            InvalidSpec: the network has no biases (T5, Llama): nothing of the base would move.
        """
        from app.adapt.layers.depth import depths, head_names, top_of

        depth, head, top = depths(network), head_names(network), top_of(network)
        has_bias = False
        for name, parameter in network.named_parameters():
            is_bias = "bias" in name.rpartition(".")[2]  # recurrent layers have several
            has_bias |= is_bias and depth[name] < top
            parameter.requires_grad_(is_bias or name in head)
        if not has_bias:
            message = "method bias_only: this model has no biases; use full or gradual_unfreezing"
            raise InvalidSpec(message, param="method", code="method_does_not_fit")
        return network

"""A linear head on frozen features: the encoder is run once, the head is solved for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from app.adapt.method import FeatureMethod

if TYPE_CHECKING:
    from torch import nn


class LinearProbe(FeatureMethod):
    """Fit a regularized logistic (or ridge) regression on features that are computed once.

    Source: Alain & Bengio 2016 (arXiv 1610.01644); as a baseline for sentence embeddings, Muennighoff et
    al. 2022 (arXiv 2210.07316).
    """

    freezes: ClassVar[bool] = True
    steps: ClassVar[bool] = False
    kind: Literal["linear_probe"] = "linear_probe"

    def prepare(self, network: nn.Module) -> nn.Module:
        """Freeze all but the head."""
        from app.adapt.layers.depth import head_names

        head = head_names(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in head)
        return network

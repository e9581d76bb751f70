"""L2-SP: a penalty on the way from the starting weights, as a term of the gradient.

Source: Li et al. 2018, "Explicit Inductive Bias for Transfer Learning" (arXiv 1802.01483), eq. 3.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch
from torch import nn

from app.spec.optimization import L2Sp


class Anchor:
    """The weights as they are when this is made; those in `new` have no start and are pulled to zero."""

    def __init__(self, network: nn.Module, new: AbstractSet[str], penalty: L2Sp) -> None:
        trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self._kept = [p for name, p in trained if name not in new]
        self._start = [p.detach().clone() for p in self._kept]
        self._new = [p for name, p in trained if name in new]
        self._penalty = penalty

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add alpha (w - w0) and beta w_new to the gradients that there are."""
        for parameter, start in zip(self._kept, self._start, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self._penalty.alpha)
        for parameter in self._new:
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=self._penalty.beta)

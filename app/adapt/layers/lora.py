"""Low-rank updates of linear layers, and merging them back. Source: Hu et al. 2022 (arXiv 2106.09685)."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from app.adapt.layers.depth import depths, top_of
from app.adapt.layers.nf4 import Nf4


class LowRank(nn.Module):
    """A frozen linear layer with a trained update: y = base(x) + scale * B A dropout(x).

    A is (r, in) and starts uniform as a linear layer's weight does, B is (out, r) and starts at zero: the
    first step begins at the pretrained network.
    """

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        weight = cast("Tensor", base.weight)
        # GPT-2's Conv1D keeps its weight as (in, out), nn.Linear as (out, in).
        self.is_transposed = isinstance(base, Conv1D)
        rows, columns = weight.shape
        inputs, outputs = (rows, columns) if self.is_transposed else (columns, rows)
        self.base = base.requires_grad_(requires_grad=False)
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Parameter(weight.new_empty(rank, inputs))
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """A weight of the layer's type and on its device: T5 asks its `wo` for them."""
        return self.down

    def forward(self, x: Tensor) -> Tensor:
        """Return the base's output plus the update's; x is (..., in), the result (..., out)."""
        update = functional.linear(functional.linear(self.dropout(x), self.down), self.up)
        return torch.add(cast("Tensor", self.base(x)), update, alpha=self.scale)  # in one pass

    def merged(self) -> nn.Module:
        """Return the base with the update added to its weight."""
        with torch.no_grad():
            base = self.base.plain() if isinstance(self.base, Nf4) else self.base
            update = self.scale * (self.up @ self.down)
            weight = cast("Tensor", base.weight)
            weight += update.T if self.is_transposed else update
        return base


def add_low_rank(
    network: nn.Module, *, rank: int, scale: float, dropout: float, is_nf4: bool = False
) -> int:
    """Wrap every linear layer of the numbered blocks, its weight in 4 bits if so; return how many."""
    depth, top = depths(network), top_of(network)
    found = [
        (name, module)
        for name, module in network.named_modules()
        # An output matrix that is tied goes by the embedding's name.
        if isinstance(module, nn.Linear | Conv1D) and 0 < depth.get(f"{name}.weight", top) < top
    ]
    for name, module in found:
        wrapped = LowRank(module, rank, scale, dropout).train(module.training)
        if is_nf4:
            wrapped.base = Nf4(module)
        _replace(network, name, wrapped)
    return len(found)


def merge_low_rank(network: nn.Module) -> nn.Module:
    """Put every wrapped layer back, with its update in its weight."""
    found = [(name, m) for name, m in network.named_modules() if isinstance(m, LowRank)]
    for name, module in found:
        _replace(network, name, module.merged())
    return network


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    holder: Any = network.get_submodule(parent)
    setattr(holder, child, module)

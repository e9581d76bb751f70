"""PCGrad: of two tasks whose gradients conflict, each loses its part along the other's.

Source: Yu et al. 2020 (arXiv 2001.06782), algorithm 1. Gradients are compared on the weights that tasks
share; each head has the gradient of its own task alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GradientSurgery:
    """Takes the tasks' gradients one after the other, and leaves their projected sum on the weights."""

    def __init__(self, parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]) -> None:
        ids = {id(p) for p in shared}
        self._parameters = parameters
        self._is_shared = [id(p) in ids for p in parameters]
        self._taken: dict[str, list[Tensor | None]] = {}

    @torch.no_grad()
    def take(self, task: str) -> None:
        """Take the gradient that a part of a task's batch has left on the weights, added to its others."""
        taken = self._taken.setdefault(task, [None] * len(self._parameters))
        for at, parameter in enumerate(self._parameters):
            gradient, parameter.grad = parameter.grad, None
            if gradient is not None:
                before = taken[at]
                taken[at] = gradient if before is None else before.add_(gradient)

    @torch.no_grad()
    def leave(self, generator: torch.Generator) -> int:
        """Put the sum of the projected gradients on the weights; return how often two were in conflict."""
        names = list(self._taken)
        flat = {name: self._shared(self._taken[name]) for name in names}
        squares = {name: float(vector @ vector) for name, vector in flat.items()}
        conflicts, total = 0, torch.zeros_like(next(iter(flat.values())))
        for name in names:
            projected = flat[name].clone()
            others = [other for other in names if other != name]
            for at in torch.randperm(len(others), generator=generator).tolist():
                other = others[at]
                product = float(projected @ flat[other])
                if product < 0 and squares[other] > 0:
                    projected.sub_(flat[other], alpha=product / squares[other])
                    conflicts += 1
            total += projected
        self._put(total)
        self._taken = {}
        return conflicts

    def _shared(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return a task's gradient of the shared weights as one vector, 0 where there is none."""
        pieces = [
            torch.zeros(parameter.numel(), device=parameter.device)
            if gradient is None
            else gradient.float().flatten()
            for parameter, gradient, is_shared in zip(
                self._parameters, gradients, self._is_shared, strict=True
            )
            if is_shared
        ]
        return torch.cat(pieces)

    def _put(self, total: Tensor) -> None:
        start = 0
        for at, (parameter, is_shared) in enumerate(
            zip(self._parameters, self._is_shared, strict=True)
        ):
            found = [taken[at] for taken in self._taken.values() if taken[at] is not None]
            if is_shared:
                end = start + parameter.numel()
                if found:
                    parameter.grad = total[start:end].view_as(parameter).to(parameter.dtype)
                start = end
            elif found:
                parameter.grad = found[0]

"""Everything that a resumed run needs, as plain tensors and JSON: no pickle.

Optimizer state is keyed by the parameter's position in the optimizer's groups, which is the same in
every run, because groups are made in a stable order.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from app.kit.schema import Frozen


class TrainState(Frozen):
    """Where a run stands after `step` optimizer steps. Metrics are those of the last evaluation."""

    step: int = 0
    trained_tokens: int = 0
    best_value: float | None = None
    best_step: int | None = None
    evaluations_without_gain: int = 0
    is_stopped: bool = False
    max_batch_tokens: int
    packs: bool = Field(default=False, description="Short sequences share rows.")
    threads: int = Field(description="Sums over another number of threads have other last bits.")
    metrics: dict[str, float] = {}
    before: dict[str, float] = {}


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors and JSON values, both keyed `<position>.<name>`."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for position, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            key = f"{position}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value.detach().contiguous()
            else:
                values[key] = value
    return tensors, values


def load_optimizer(
    optimizer: Optimizer, tensors: dict[str, Tensor], values: dict[str, Any]
) -> None:
    """Put back what `optimizer_tensors` took; groups and rates stay as they were made."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        position, _, name = key.partition(".")
        state.setdefault(int(position), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def network_tensors(network: torch.nn.Module) -> dict[str, Tensor]:
    """Return all weights and buffers by name, each shared tensor once under its first name."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() in seen and tensor.numel():
            continue
        seen.add(tensor.data_ptr())
        tensors[name] = tensor.detach().contiguous()
    return tensors

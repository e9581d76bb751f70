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


class SeedResult(Frozen):
    """What came of one seed: the best value on the validation set, signed so that more is better."""

    seed: int
    value: float
    best_step: int


class TrainState(Frozen):
    """Where a run stands. Metrics are those of the last evaluation.

    `step` counts the optimizer steps of the seed at hand, `total_steps` those of all seeds; all that is
    told to the outside (checkpoints, series, `best_step`) counts the latter. `best_value` is of the seed
    at hand.
    """

    step: int = 0
    offset: int = Field(default=0, description="Steps of the seeds that are done.")
    seeds: list[SeedResult] = Field(default=[], description="The seeds that are done.")
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
    kept_step: int | None = Field(default=None, description="The step whose weights the model has.")
    method: dict[str, Any] | None = Field(default=None, description="The one that trials chose.")
    trials: list[dict[str, Any]] = Field(default=[], description="What each candidate came to.")

    @property
    def total_steps(self) -> int:
        """Optimizer steps since the beginning of the run, whatever the seed."""
        return self.offset + self.step

    @property
    def best(self) -> tuple[float, int] | None:
        """The best value of any seed, and its step; of equals the first."""
        results = [(result.value, result.best_step) for result in self.seeds]
        if self.best_value is not None and self.best_step is not None:
            results.append((self.best_value, self.best_step))
        return max(results, key=lambda result: result[0], default=None)

    def done(self, seed: int) -> TrainState:
        """Return the state after the last step of a seed's training."""
        if self.best_value is None or self.best_step is None:
            return self
        result = SeedResult(seed=seed, value=self.best_value, best_step=self.best_step)
        return self.model_copy(
            update={
                "step": 0,
                "offset": self.total_steps,
                "seeds": [*self.seeds, result],
                "best_value": None,
                "best_step": None,
            }
        )


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

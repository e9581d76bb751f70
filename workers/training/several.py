"""A stage of several tasks that read with one encoder: what the loop trains for all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from app.adapt.loss import Loss
from app.adapt.outputs import Batch, Encoded, Outputs
from workers.training.evaluate import Evaluation, Stage, evaluate, units

PART = "part"  # the place of its task's name in a row's `extra`
SCORE = "score"


class Uncertainty(nn.Module):
    """sum_k exp(-s_k) L_k + s_k / 2: the noisier a task, the less it counts. Learned: s_k = log sigma_k^2.

    Source: Kendall et al. 2018 (arXiv 1705.07115), eq. 10 with the s of section 3.2, for all losses alike.
    s starts at 0. Adam moves a weight by about its rate a step, and a network's is too small for s to get
    anywhere, so s is `PACE` times what is learned.
    """

    PACE = 50.0

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._places = {name: at for at, name in enumerate(names)}
        self.moved = nn.Parameter(torch.zeros(len(names)))

    def forward(self, name: str, loss: torch.Tensor) -> torch.Tensor:
        """Return the task's term of the sum."""
        s = self.PACE * self.moved[self._places[name]]
        return torch.exp(-s) * loss + s / 2

    def factors(self) -> dict[str, float]:
        """Return exp(-s_k) of each task."""
        values = torch.exp(-self.PACE * self.moved.detach()).tolist()
        return dict(zip(self._places, values, strict=True))


@dataclass(frozen=True)
class SeveralStage:
    """The stage of each task by name, over one network; a batch has rows of one task.

    `weights` are the w_k of the sum. Rows say by `extra["part"]` which task they are of.
    """

    parts: Mapping[str, Stage]
    network: nn.Module
    weights: Mapping[str, float]
    learned: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    teach: None = None

    @property
    def device(self) -> torch.device:
        """The device of all."""
        return next(iter(self.parts.values())).device

    @property
    def losses(self) -> list[Loss]:
        """The losses of all tasks."""
        return [loss for stage in self.parts.values() for loss in stage.losses]

    def run(
        self, items: Sequence[Encoded], *, fraction: float = 1.0, packs: bool = False
    ) -> tuple[Batch, Outputs, torch.Tensor]:
        """Return a batch, the outputs, and the task's term of the objective."""
        name = items[0].extra[PART]
        batch, outputs, loss = self.parts[name].run(items, fraction=fraction, packs=packs)
        return batch, outputs, self._term(name, loss)

    def _term(self, name: str, loss: torch.Tensor) -> torch.Tensor:
        weighted = self.weights[name] * loss
        for module in self.learned.values():
            weighted = module(name, weighted)
        return weighted

    def factors(self) -> dict[str, float]:
        """Return what each task's loss has come to count for, with learned weights."""
        found = dict(self.weights)
        for module in self.learned.values():
            learned = cast("Uncertainty", module).factors()
            found = {name: weight * learned[name] for name, weight in found.items()}
        return found

    def shares(self, rows: Sequence[Sequence[Encoded]]) -> list[float]:
        """Return what each part of a step counts for: its share of its task's targets."""
        totals: dict[str, int] = {}
        for items in rows:
            name = items[0].extra[PART]
            totals[name] = totals.get(name, 0) + units(items)
        return [units(items) / max(1, totals[items[0].extra[PART]]) for items in rows]

    def evaluate(
        self, encoded: Sequence[Encoded], max_tokens: int, *, intervals: bool = False
    ) -> Evaluation:
        """Return every task's figures as `<task>/<metric>`, the objective as `loss`, and the `score`."""
        found: dict[str, Evaluation] = {}
        for name, stage in self.parts.items():
            rows = [item for item in encoded if item.extra[PART] == name]
            found[name] = evaluate(stage, rows, max_tokens, intervals=intervals)
        metrics: dict[str, float] = {}
        if all("loss" in result.metrics for result in found.values()):
            metrics["loss"] = sum(self.weights[n] * r.metrics["loss"] for n, r in found.items())
        goodness = {name: self._goodness(name, result) for name, result in found.items()}
        known = [value for value in goodness.values() if value is not None]
        if len(known) == len(goodness):
            metrics[SCORE] = sum(known) / len(known)
        for name, result in found.items():
            metrics |= {f"{name}/{metric}": value for metric, value in result.metrics.items()}
        return Evaluation(
            metrics=metrics,
            details={name: result.details for name, result in found.items()},
            intervals={
                f"{n}/{m}": pair for n, r in found.items() for m, pair in r.intervals.items()
            },
        )

    def primary_metric(self) -> tuple[str, bool]:
        """Return the mean of the tasks' own metrics; see `_goodness`."""
        return SCORE, True

    def _goodness(self, name: str, result: Evaluation) -> float | None:
        """Return a task's primary metric where more is better, else 1 / (1 + it): in both, 1 is best."""
        metric, greater = self.parts[name].task.primary_metric()
        value = result.metrics.get(metric)
        if value is None or greater:
            return value
        return 1 / (1 + max(value, 0.0))


def marked(rows: Sequence[Encoded], name: str) -> list[Encoded]:
    """Return rows that say which task they are of."""
    extra: dict[str, Any] = {PART: name}
    return [replace(row, extra={**row.extra, **extra}) for row in rows]

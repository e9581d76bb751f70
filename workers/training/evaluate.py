"""Evaluation: every example once, sorted by length, without gradients; metrics are the task's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from app.adapt.layers.internals import forward
from app.adapt.layers.language import IGNORED
from app.adapt.loss import Loss, internals
from app.adapt.outputs import Batch, Encoded, Outputs
from app.adapt.schedule import number
from app.adapt.task import Metrics, Network, Task
from workers.training.batches import fit_tokens
from workers.training.device import autocast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Evaluation:
    """Finite metrics by name (`loss` among them, unless it overflowed), and what is no number."""

    metrics: dict[str, float]
    details: dict[str, Any]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A network on its device with all that it takes to run it: what training and evaluation share.

    Of a distillation, `teach` returns what the teacher says about rows and their batch, on the device, with
    its inside where losses read it; `learned` is what losses learn themselves, by their place in `losses`.
    Of a pretraining, `objective` is the torch half that makes its batches, in place of the task's own.
    """

    task: Task
    network: nn.Module
    losses: Sequence[Loss]
    tokenizer: PreTrainedTokenizerBase
    pad_id: int
    device: torch.device
    precision: str
    beat: Callable[[], None] = lambda: None  # called for each batch that is no training step
    teach: Callable[[Sequence[Encoded], Batch], Outputs] | None = None
    learned: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    objective: Network | None = None

    @property
    def half(self) -> Network:
        """The torch half that makes batches and runs the network on them."""
        return self.objective or self.task.network()

    def run(
        self, items: Sequence[Encoded], *, fraction: float = 1.0, packs: bool = False
    ) -> tuple[Batch, Outputs, torch.Tensor]:
        """Return a batch, the outputs, and the objective, a scalar mean over its targets.

        The batch is padded, an example a row, unless it `packs`. `fraction` is how much of the training is
        done. Evaluations leave it at 1: what they measure is the same all the way.
        """
        batch, outputs, teacher = self.say(items, packs=packs)
        terms: list[torch.Tensor] = []
        for index, scheduled in enumerate(self.losses):
            loss, name = scheduled.at(fraction), str(index)
            seen = self.learned[name](outputs) if name in self.learned else outputs
            terms.append(number(loss.weight) * loss.compute(seen, batch, teacher))
        return batch, outputs, torch.stack(terms).sum()

    def shares(self, rows: Sequence[Sequence[Encoded]]) -> list[float]:
        """Return what each part of a batch counts for: its share of the targets."""
        total = max(1, sum(map(units, rows)))
        return [units(items) / total for items in rows]

    def evaluate(
        self, encoded: Sequence[Encoded], max_tokens: int, *, intervals: bool = False
    ) -> Evaluation:
        """Run the network over a set."""
        return evaluate(self, encoded, max_tokens, intervals=intervals)

    def primary_metric(self) -> tuple[str, bool]:
        """Return the metric that picks the best checkpoint, and whether greater is better."""
        return self.task.primary_metric()

    def say(
        self, items: Sequence[Encoded], *, packs: bool = False
    ) -> tuple[Batch, Outputs, Outputs | None]:
        """Return a batch, and what network and teacher say about it, as losses read them."""
        half = self.half
        batch = (half.pack if packs else half.collate)(self.task, items, self.pad_id)
        batch = replace(batch, units_B=_shares(batch, items, packs=packs)).to(self.device)
        with autocast(self.device, self.precision):
            outputs = forward(half, self.network, batch, internals(self.losses))
        teacher = None if self.teach is None else self.teach(items, batch)
        # Losses in full precision: a mean over a batch in bf16 has two digits.
        return batch, replace(outputs, logits=outputs.logits.float()), teacher


@dataclass(frozen=True)
class Seen:
    """What one batch of an evaluation came to: scores and the mean loss over them, or written answers."""

    rows: Sequence[Any]
    loss: float = 0.0


class Watch(Protocol):
    """Who follows an evaluation, whose batches are numbered from 0: the same ones each time.

    What it recalls of an earlier run is not computed again.
    """

    def recall(self, number: int) -> Seen | None:
        """Return what a batch came to, None where that is not known."""
        ...

    def scored(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        """Take the scores of rows."""
        ...

    def written(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        """Take the answers that were written to rows."""
        ...


class _Nobody:
    """Watches nothing."""

    def recall(self, number: int) -> None:
        del number

    def scored(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        pass

    def written(self, number: int, seen: Seen, items: Sequence[Encoded]) -> None:
        pass


def evaluate(
    stage: Stage, encoded: Sequence[Encoded], max_tokens: int, *, intervals: bool = False,
    watch: Watch | None = None,
) -> Evaluation:  # fmt: skip
    """Run the network over a set; the loss is the mean over targets.

    `intervals` are for a finished model: they take a moment, and tasks that generate answer more rows.
    """
    was_training = stage.network.training
    stage.network.eval()
    # Not inference_mode: what a network caches in it could not be trained on after.
    with torch.no_grad():
        metrics, loss = _judge(stage, encoded, max_tokens, watch or _Nobody(), final=intervals)
    stage.network.train(was_training)
    values = {"loss": loss, **metrics.compute()}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return Evaluation(
        metrics=finite,
        details=metrics.details(),
        intervals=metrics.intervals() if intervals else {},
    )


def written_rows(
    task: Task, encoded: Sequence[Encoded], *, final: bool
) -> tuple[Sequence[Encoded], Any]:
    """Return the rows that an evaluation has answers written to, evenly spread, and the options."""
    count, parameters = task.generation(final=final)
    if not count or not encoded:
        return [], parameters
    return encoded[:: math.ceil(len(encoded) / count)], parameters


def _judge(
    stage: Stage, encoded: Sequence[Encoded], max_tokens: int, watch: Watch, *, final: bool
) -> tuple[Metrics, float]:
    """Score all rows, and let the network write answers to some of them."""
    metrics, total = stage.task.metrics(), 0.0
    parts = fit_tokens(range(len(encoded)), [len(item) for item in encoded], max_tokens)
    for at, part in enumerate(parts):
        items = [encoded[index] for index in part]
        seen = watch.recall(at) or _score(stage, items)
        total += seen.loss * units(items)
        metrics.add(seen.rows, items)
        watch.scored(at, seen, items)
    chosen: Sequence[Encoded] = []
    parameters = None
    if stage.objective is None:  # rows of a corpus ask nothing
        chosen, parameters = written_rows(stage.task, encoded, final=final)
    further = fit_tokens(range(len(chosen)), [len(item) for item in chosen], max_tokens)
    for at, part in enumerate(further, start=len(parts)):
        items = [chosen[index] for index in part]
        seen = watch.recall(at) or _write(stage, items, parameters)
        metrics.add_generated(seen.rows, items)
        watch.written(at, seen, items)
    return metrics, total / max(1, units(encoded))


def _score(stage: Stage, items: Sequence[Encoded]) -> Seen:
    stage.beat()
    batch, outputs, loss = stage.run(items)
    return Seen(stage.half.scores(stage.task, outputs, batch), float(loss))


def _write(stage: Stage, items: Sequence[Encoded], parameters: Any) -> Seen:
    stage.beat()
    half = stage.task.network()
    with autocast(stage.device, stage.precision):
        return Seen(half.generate(stage.task, stage.network, items, stage.tokenizer, parameters))


def _shares(batch: Batch, items: Sequence[Encoded], *, packs: bool) -> torch.Tensor:
    """Return how many targets each row of a batch stands for; one that is packed holds several examples."""
    if packs and batch.target is not None:
        return (batch.target != IGNORED).sum(-1)
    return torch.tensor([item.units for item in items])


def units(items: Sequence[Encoded]) -> int:
    """Return how many targets the loss of these rows is a mean over."""
    return sum(item.units for item in items)

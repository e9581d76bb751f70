"""Evaluation: every example once, sorted by length, without gradients; metrics are the task's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from app.adapt.loss import Loss
from app.adapt.outputs import Encoded, Outputs
from app.adapt.task import Task
from workers.training.batches import fit_tokens
from workers.training.device import autocast


@dataclass(frozen=True)
class Evaluation:
    """Finite metrics by name (`loss` among them, unless it overflowed), and what is no number."""

    metrics: dict[str, float]
    details: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A network on its device with all that it takes to run it: what training and evaluation share."""

    task: Task
    network: nn.Module
    losses: Sequence[Loss]
    pad_id: int
    device: torch.device
    precision: str

    def run(self, items: Sequence[Encoded]) -> tuple[Outputs, torch.Tensor]:
        """Return the outputs and the objective, a scalar mean, of one padded batch."""
        half = self.task.network()
        batch = half.collate(self.task, items, self.pad_id).to(self.device)
        with autocast(self.device, self.precision):
            outputs = half.forward(self.network, batch)
        # Losses in full precision: a mean over a batch in bf16 has two digits.
        outputs = replace(outputs, logits=outputs.logits.float())
        terms = [loss.weight * loss.compute(outputs, batch, None) for loss in self.losses]
        return outputs, torch.stack(terms).sum()


@torch.no_grad()  # not inference_mode: what a network caches in it could not be trained on after
def evaluate(stage: Stage, encoded: Sequence[Encoded], max_tokens: int) -> Evaluation:
    """Run the network over a set; the loss is the mean over examples."""
    was_training = stage.network.training
    stage.network.eval()
    metrics = stage.task.metrics()
    total_loss = 0.0
    for part in fit_tokens(range(len(encoded)), [len(item) for item in encoded], max_tokens):
        items = [encoded[index] for index in part]
        outputs, loss = stage.run(items)
        total_loss += float(loss) * len(items)
        metrics.add(outputs.logits.cpu().numpy(), [item.target for item in items])
    stage.network.train(was_training)
    values = {"loss": total_loss / max(1, len(encoded)), **metrics.compute()}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return Evaluation(metrics=finite, details=metrics.details())

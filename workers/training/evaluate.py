"""Evaluation: every example once, sorted by length, without gradients; metrics are the task's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from app.adapt.loss import Loss
from app.adapt.outputs import Encoded
from app.adapt.task import Task
from workers.training.batches import fit_tokens
from workers.training.device import autocast


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name (with `loss`), and what is not a number."""

    metrics: dict[str, float]
    details: dict[str, Any]


@torch.inference_mode()
def evaluate(
    task: Task, network: nn.Module, encoded: Sequence[Encoded], losses: Sequence[Loss],
    *, pad_id: int, device: torch.device, precision: str, max_tokens: int,
) -> Evaluation:  # fmt: skip
    """Run the network over a set; the loss is the mean over examples."""
    was_training = network.training
    network.eval()
    torch_half = task.network()
    metrics = task.metrics()
    lengths = [len(item) for item in encoded]
    total_loss = 0.0
    for part in fit_tokens(range(len(encoded)), lengths, max_tokens):
        items = [encoded[index] for index in part]
        batch = torch_half.collate(task, items, pad_id).to(device)
        with autocast(device, precision):
            outputs = torch_half.forward(network, batch)
            value = sum(loss.weight * loss.compute(outputs, batch, None) for loss in losses)
        total_loss += float(value) * len(items)
        metrics.add(outputs.logits.float().cpu().numpy(), [item.target for item in items])
    network.train(was_training)
    values = {"loss": total_loss / max(1, len(encoded)), **metrics.compute()}
    return Evaluation(metrics=values, details=metrics.details())

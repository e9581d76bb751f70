"""Optimizers by name, and learning-rate schedules as pure functions of the step, without state."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer

from app.spec.optimization import Optimization


def make_optimizer(groups: list[dict[str, Any]], spec: Optimization) -> Optimizer:
    """Return the optimizer of a resolved spec, over parameters that are on their device already.

    Adam and AdamW correct their bias (Kingma & Ba 2015; leaving it out is what makes small sets fail,
    Zhang et al. 2021, arXiv 2006.05987). Fused kernels do one pass over the memory instead of ten.
    """
    rate = float(groups[0]["lr"])
    match spec.optimizer:
        case "adamw":
            return torch.optim.AdamW(
                groups, lr=rate, betas=spec.betas, eps=spec.epsilon, fused=True
            )
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=spec.betas, eps=spec.epsilon, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=spec.momentum, fused=True)
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=rate)


def factor(spec: Optimization, step: int, total_steps: int) -> float:
    """Return what the base rates are multiplied by at `step` in [0, total_steps).

    linear, cosine: rise over the warm-up, then fall to 0. slanted_triangular: Howard & Ruder 2018
    (arXiv 1801.06146, eq. 3) with cut = warm-up and ratio 32.
    """
    warmup = round(float(spec.warmup) * total_steps)
    if spec.schedule == "slanted_triangular":
        cut, ratio = max(1, warmup), 32
        rise = step / cut if step < cut else 1 - (step - cut) / max(1, total_steps - cut)
        return (1 + rise * (ratio - 1)) / ratio
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    match spec.schedule:
        case "linear":
            return 1.0 - done
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        case _:
            return 1.0


def set_rates(optimizer: Optimizer, base_rates: list[float], multiplier: float) -> float:
    """Set each group's rate for this step and return the first group's."""
    for group, base in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = base * multiplier
    return base_rates[0] * multiplier

"""Where and how a job runs: seed, precision, cadence and time limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.kit.schema import Frozen
from app.spec.optimization import Auto


class Execution(Frozen):
    """How any job runs."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    max_runtime_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The job fails when it is not done this long after its creation."
    )


class Runtime(Execution):
    """Everything about a training that is neither data nor optimization."""

    seeds: Annotated[int, Field(ge=1, le=20)] | Auto = Field(
        default="auto",
        description="Trainings that differ in their seed only (seed, seed + 1, ...); the best on the "
        "validation set becomes the model. auto: 3 where there are few rows and a new head, else 1.",
    )
    evaluate_every: Annotated[int, Field(ge=1)] | Auto = Field(
        default="auto", description="Optimizer steps; auto: once an epoch, 10 to 50 times a run."
    )
    checkpoint_every: Annotated[int, Field(ge=1)] | Auto = Field(
        default="auto", description="Optimizer steps; auto: with each evaluation."
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, le=100, description="Newest kept, plus the best."
    )
    baselines: bool = Field(
        default=True,
        description="Judge the untouched base and a linear probe on the same held-out rows, after the "
        "training.",
    )

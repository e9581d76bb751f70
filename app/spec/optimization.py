"""How the weights move. `"auto"` is resolved by `app.spec.resolve` and shown in the job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.kit.schema import Frozen

Auto = Literal["auto"]


class EarlyStopping(Frozen):
    """Stop when the primary metric has not improved for `patience` evaluations."""

    patience: int = Field(default=3, ge=1)
    min_delta: float = Field(default=0.0, ge=0)


class L2Sp(Frozen):
    """Pull towards the starting weights: (alpha/2) |w - w0|^2 + (beta/2) |w_new|^2.

    Source: Li et al. 2018 (arXiv 1802.01483), eq. 3. w_new are weights that the source does not have, the
    head's; it replaces weight decay.
    """

    alpha: float = Field(default=0.01, ge=0)
    beta: float = Field(default=0.01, ge=0)


class Optimization(Frozen):
    """Optimizer, schedule and budget."""

    optimizer: Literal["adamw", "adam", "sgd", "adafactor"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=10)] | Auto = "auto"
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="SGD only.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    epsilon: float = Field(default=1e-8, gt=0)
    schedule: Literal["linear", "cosine", "constant", "slanted_triangular"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] | Auto = Field(
        default="auto", description="Share of all steps over which the rate rises."
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = "auto"
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Ends the training early; schedules follow it."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = Field(
        default="auto", description="Examples per optimizer step."
    )
    max_batch_tokens: Annotated[int, Field(ge=16)] | Auto = Field(
        default="auto", description="Padded tokens that go through the network at once."
    )
    max_length: Annotated[int, Field(ge=4, le=1_000_000)] | Auto = Field(
        default="auto", description="Tokens an example is cut to."
    )
    packing: bool | Auto = Field(
        default="auto",
        description="Short sequences of a batch share a row instead of being padded, where the task learns "
        "token by token; the batch and its gradient stay the same.",
    )
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(
        default=1.0, description="Largest global L2 norm of the gradient; null: no clipping."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["balanced"] | None = Field(
        default=None, description="balanced: n / (classes * count), for uneven classes."
    )
    l2_sp: L2Sp | None = Field(default=None, description="Pull towards the starting weights.")
    early_stopping: EarlyStopping | None = None

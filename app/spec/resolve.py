"""What `"auto"` stands for, decided from the data, the model and the hardware. Pure and torch-free.

Every value says where it comes from; `estimate` says how it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from app.adapt.plugins import LOSSES
from app.adapt.student import Student
from app.errors import InvalidSpec
from app.spec.choice import AutoMethod
from app.spec.optimization import Auto, Optimization
from app.spec.runtime import Runtime
from app.spec.training import Training

S = TypeVar("S", bound=Training)

GIB = 1024**3
FEW_ROWS = 1_000
FEW_STEPS = 500  # Zhang et al. 2021 (arXiv 2006.05987): small sets need more steps than 3 epochs
MAX_FEW_EPOCHS = 20
FEW_SEEDS = 3  # Dodge et al. 2020 (arXiv 2002.06305): on small sets, seeds differ by points
FRESH_EPOCHS = (
    10  # measured on recurrent networks; 3 leave random weights far from where they could be
)
EPOCHS = 3  # Devlin et al. 2019, A.3: 2 to 4
WARMUP = 0.1  # Zhang et al. 2021; 0.06 to 0.1 is usual
CORE_FLOPS = 4.5e10  # measured: MiniLM-L6 on short sentences, two AVX-512 cores
GPU_FLOPS = 3e13  # not measured; a third of an A100's fp32 tensor throughput
ROOM = 8  # tokens beside a method's own: a start, an end, and a few words
MIN_EVALUATIONS = 10
MAX_EVALUATIONS = 50


class Host(Protocol):
    """What is known of the device, and of what it has to hold."""

    @property
    def num_parameters(self) -> int:
        """Of the network."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What is free."""
        ...

    @property
    def device(self) -> str:
        """cpu, or cuda."""
        ...

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bf16 itself."""
        ...

    @property
    def cores(self) -> int:
        """Of its processor."""
        ...

    @property
    def num_trained(self) -> int | None:
        """Of the parameters, those that train; None: all of them."""
        ...


@dataclass(frozen=True)
class Facts:
    """What is known once the data is encoded and the model is found. Lengths are in tokens.

    `lengths` are of whole examples; `longest` of each one's longest sequence, where it has several.
    """

    lengths: Sequence[int]
    num_parameters: int
    model_max_length: int
    memory_bytes: int
    device: str
    has_bf16: bool = True
    num_embeddings: int = 0  # of the parameters, those that are looked up and not multiplied
    cores: int = 1
    longest: Sequence[int] | None = None
    num_trained: int | None = None  # None: all of them
    full_rate: float | None = None  # of tuning the whole network, where its kind has one of its own
    is_fresh: bool = False  # its weights are random


def starts_fresh(model: str | Student, transfer: object) -> bool:
    """Say whether the weights of a job's network are random at first."""
    return transfer == "structure" or (isinstance(model, Student) and model.is_fresh)


def resolve_length(lengths: Sequence[int], model_max_length: int) -> int:
    """Return the 99th percentile, rounded up to a multiple of 8: every batch pays for padding."""
    ordered = sorted(lengths)
    p99 = ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99))]
    return max(8, min(model_max_length, math.ceil(p99 / 8) * 8))


def resolve(spec: S, facts: Facts) -> S:
    """Return the spec with no `"auto"` left in optimization and runtime.

    While the method is still to be chosen, the learning rate, which depends on it, stays.

    Raises:
        InvalidSpec: a setting that this task cannot follow.
    """
    given = spec.optimization
    count = len(facts.lengths)
    length = _length(spec, facts)
    batch_size = (
        _batch_size(spec, facts, length) if given.batch_size == "auto" else given.batch_size
    )
    epochs = _epochs(facts, batch_size) if given.epochs == "auto" else given.epochs
    tokens = batch_tokens(facts) if given.max_batch_tokens == "auto" else given.max_batch_tokens
    rate: float | Auto = given.learning_rate
    if rate == "auto" and not isinstance(spec.method, AutoMethod):
        rate = spec.method.learning_rate(facts.num_parameters, facts.full_rate)
    warmup = (
        (0.0 if given.schedule == "constant" else WARMUP)
        if given.warmup == "auto"
        else given.warmup
    )
    packing = spec.task.packs() if given.packing == "auto" else given.packing
    if packing and not spec.task.packs():
        message = f"optimization.packing: this form of {spec.task.name()} compares or reads rows as a whole"
        raise InvalidSpec(message, param="optimization.packing", code="cannot_pack")
    optimization = given.model_copy(
        update={
            "max_length": length,
            "batch_size": batch_size,
            "epochs": epochs,
            "max_batch_tokens": max(tokens, length),
            "learning_rate": rate,
            "warmup": warmup,
            "packing": packing,
        }
    )
    steps = num_steps(optimization, count)
    runtime = _runtime(spec, facts, steps, math.ceil(count / batch_size))
    return spec.model_copy(update={"optimization": optimization, "runtime": runtime})


def _length(spec: Training, facts: Facts) -> int:
    given, added = spec.optimization.max_length, spec.method.added_tokens
    length = (
        resolve_length(facts.longest or facts.lengths, facts.model_max_length)
        if given == "auto"
        else min(given, facts.model_max_length)
    )
    if added and length < added + ROOM:
        message = (
            f"optimization.max_length: {added} of {length} tokens are the method's own; "
            f"{added + ROOM} or more leave room for a text"
        )
        raise InvalidSpec(message, param="optimization.max_length")
    return length


def num_steps(optimization: Optimization, count: int) -> int:
    """Return how many optimizer steps a training on so many rows has; of a resolved spec."""
    whole = _number(optimization.epochs) * math.ceil(count / _number(optimization.batch_size))
    return min(optimization.max_steps or whole, whole)


def _runtime(spec: Training, facts: Facts, steps: int, steps_per_epoch: int) -> Runtime:
    given = spec.runtime
    is_few = len(facts.lengths) < FEW_ROWS and spec.task.adds_head
    has_steps = isinstance(spec.method, AutoMethod) or spec.method.steps
    every = given.evaluate_every
    if every == "auto":
        # Once an epoch, but often enough to pick a best one and not so often as to be the work.
        every = min(steps_per_epoch, math.ceil(steps / MIN_EVALUATIONS))
        every = max(1, every, math.ceil(steps / MAX_EVALUATIONS))
    checkpoint = given.checkpoint_every
    return given.model_copy(
        update={
            "seeds": (FEW_SEEDS if is_few and has_steps else 1)
            if given.seeds == "auto"
            else given.seeds,
            "evaluate_every": every,
            "checkpoint_every": every if checkpoint == "auto" else checkpoint,
        }
        | place_of(given, facts)
    )


def place_of(given: Runtime, facts: Host) -> dict[str, str]:
    """Return the device and precision that a job asks for, or those of the host."""
    precision = given.precision
    if precision == "auto":
        precision = precision_of(facts.device, has_bf16=facts.has_bf16)
    return {
        "device": facts.device if given.device == "auto" else given.device,
        "precision": precision,
    }


def estimate(resolved: Training, facts: Facts) -> dict[str, Any]:
    """Return steps, tokens, seconds and memory of the training, with how they were counted."""
    optimization = resolved.optimization
    length, count = _number(optimization.max_length), len(facts.lengths)
    steps = num_steps(optimization, count) * _number(resolved.runtime.seeds)
    an_epoch = math.ceil(count / _number(optimization.batch_size))
    tokens = steps * sum(min(n, length) for n in facts.lengths) // an_epoch
    # 6 N T without embeddings: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1.
    flops = 6 * (facts.num_parameters - facts.num_embeddings) * tokens
    cost: dict[str, Any] = {"steps": steps, "tokens": tokens}
    cost |= needs(facts, flops, _number(optimization.max_batch_tokens))
    return cost | {
        "basis": "6 * parameters (without embeddings) * tokens at 45 GFLOP/s a core, or 30 TFLOP/s "
        "on a GPU; 4 bytes a parameter, 12 more where it trains, 24 kB a token of the largest batch",
    }


def needs(facts: Host, flops: float, batch_tokens: int) -> dict[str, Any]:
    """Return the seconds of so many operations, and the bytes that a training keeps and computes with."""
    per_s = CORE_FLOPS * facts.cores if facts.device == "cpu" else GPU_FLOPS
    trained = facts.num_parameters if facts.num_trained is None else facts.num_trained
    # fp32; gradients and two moments of what trains
    state = facts.num_parameters * 4 + trained * 12
    return {
        "seconds": round(flops / per_s, 1),
        "state_bytes": state,
        "memory_bytes": state + batch_tokens * 24_000,
    }


def _epochs(facts: Facts, batch_size: int) -> int:
    count, least = len(facts.lengths), FRESH_EPOCHS if facts.is_fresh else EPOCHS
    if count >= FEW_ROWS:
        return least
    steps_an_epoch = math.ceil(count / batch_size)
    return max(least, min(MAX_FEW_EPOCHS, math.ceil(FEW_STEPS / steps_an_epoch)))


def _batch_size(spec: Training, facts: Facts, length: int) -> int:
    """Small sets need many steps; a loss that compares rows needs many rows, as far as memory goes."""
    usual = 16 if len(facts.lengths) < FEW_ROWS else 32
    losses = spec.losses or [LOSSES[given["kind"]] for given in spec.task.default_losses()]
    wanted = max((loss.batch_size or 0 for loss in losses), default=0)
    fitting = _affordable_tokens(facts) // length
    return max(usual, min(wanted, 1 << max(0, fitting.bit_length() - 1)))


def batch_tokens(facts: Host) -> int:
    """Return what memory holds, but no more than helps.

    Rounded down to a power of two, so that a little more or less free memory changes nothing.
    """
    limit = 4096 if facts.device == "cpu" else 65_536
    tokens = max(512, min(limit, _affordable_tokens(facts)))
    return 1 << (tokens.bit_length() - 1)


def _affordable_tokens(facts: Host) -> int:
    """Half of what the optimizer's state leaves free, at 24 kB a token (measured on MiniLM-L6)."""
    return max(0, facts.memory_bytes - facts.num_parameters * 16) // 2 // 24_000


def precision_of(device: str, *, has_bf16: bool) -> str:
    """bf16 needs no loss scaling; GPUs before Ampere have fp16 only, and CPUs emulate both."""
    if not device.startswith("cuda"):
        return "fp32"
    return "bf16" if has_bf16 else "fp16"


def _number(value: int | str) -> int:
    if isinstance(value, str):
        message = "the spec has not been resolved"
        raise TypeError(message)
    return value

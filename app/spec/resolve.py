"""What `"auto"` stands for, decided from the data, the model and the hardware. Pure and torch-free.

Every value says where it comes from; `estimate` says how it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidSpec
from app.spec.fine_tune import FineTune
from app.spec.runtime import Runtime

GIB = 1024**3
FEW_ROWS = 1_000
FEW_STEPS = 500  # Zhang et al. 2021 (arXiv 2006.05987): small sets need more steps than 3 epochs
MAX_FEW_EPOCHS = 20
EPOCHS = 3  # Devlin et al. 2019, A.3: 2 to 4
WARMUP = 0.1  # Zhang et al. 2021; 0.06 to 0.1 is usual
CORE_FLOPS = 4.5e10  # measured: MiniLM-L6 on short sentences, two AVX-512 cores
GPU_FLOPS = 3e13  # not measured; a third of an A100's fp32 tensor throughput
ROOM = 8  # tokens beside a method's own: a start, an end, and a few words
MIN_EVALUATIONS = 10
MAX_EVALUATIONS = 50


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


def resolve_length(lengths: Sequence[int], model_max_length: int) -> int:
    """Return the 99th percentile, rounded up to a multiple of 8: every batch pays for padding."""
    ordered = sorted(lengths)
    p99 = ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99))]
    return max(8, min(model_max_length, math.ceil(p99 / 8) * 8))


def resolve(spec: FineTune, facts: Facts) -> FineTune:
    """Return the spec with no `"auto"` left in optimization and runtime.

    Raises:
        InvalidSpec: `max_length` leaves no room for a text beside a method's own tokens.
    """
    given = spec.optimization
    count = len(facts.lengths)
    length = (
        resolve_length(facts.longest or facts.lengths, facts.model_max_length)
        if given.max_length == "auto"
        else min(given.max_length, facts.model_max_length)
    )
    added = spec.method.added_tokens
    if added and length < added + ROOM:
        message = (
            f"optimization.max_length: {added} of {length} tokens are the method's own; "
            f"{added + ROOM} or more leave room for a text"
        )
        raise InvalidSpec(message, param="optimization.max_length")
    batch_size = (
        (16 if count < FEW_ROWS else 32) if given.batch_size == "auto" else given.batch_size
    )
    epochs = _epochs(count, batch_size) if given.epochs == "auto" else given.epochs
    steps = min(given.max_steps or 10**9, epochs * math.ceil(count / batch_size))
    tokens = _batch_tokens(facts) if given.max_batch_tokens == "auto" else given.max_batch_tokens
    rate = (
        spec.method.learning_rate(facts.num_parameters)
        if given.learning_rate == "auto"
        else given.learning_rate
    )
    warmup = (
        (0.0 if given.schedule == "constant" else WARMUP)
        if given.warmup == "auto"
        else given.warmup
    )
    optimization = given.model_copy(
        update={
            "max_length": length,
            "batch_size": batch_size,
            "epochs": epochs,
            "max_batch_tokens": max(tokens, length),
            "learning_rate": rate,
            "warmup": warmup,
        }
    )
    runtime = _runtime(spec, facts, steps, math.ceil(count / batch_size))
    return spec.model_copy(update={"optimization": optimization, "runtime": runtime})


def _runtime(spec: FineTune, facts: Facts, steps: int, steps_per_epoch: int) -> Runtime:
    given = spec.runtime
    every = given.evaluate_every
    if every == "auto":
        # Once an epoch, but often enough to pick a best one and not so often as to be the work.
        every = min(steps_per_epoch, math.ceil(steps / MIN_EVALUATIONS))
        every = max(1, every, math.ceil(steps / MAX_EVALUATIONS))
    checkpoint = given.checkpoint_every
    return given.model_copy(
        update={
            "evaluate_every": every,
            "checkpoint_every": every if checkpoint == "auto" else checkpoint,
            "device": facts.device if given.device == "auto" else given.device,
            "precision": _precision(facts) if given.precision == "auto" else given.precision,
        }
    )


def estimate(resolved: FineTune, facts: Facts) -> dict[str, Any]:
    """Return steps, tokens, seconds and memory of the training, with how they were counted."""
    optimization = resolved.optimization
    length, batch_size, epochs = (
        _number(optimization.max_length),
        _number(optimization.batch_size),
        _number(optimization.epochs),
    )
    count = len(facts.lengths)
    steps = min(optimization.max_steps or 10**9, epochs * math.ceil(count / batch_size))
    share = steps / (epochs * math.ceil(count / batch_size))
    tokens = int(epochs * share * sum(min(n, length) for n in facts.lengths))
    # 6 N T without embeddings: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1.
    flops = 6 * (facts.num_parameters - facts.num_embeddings) * tokens
    per_s = CORE_FLOPS * facts.cores if facts.device == "cpu" else GPU_FLOPS
    state = facts.num_parameters * 16  # weights, gradients and two moments in fp32
    return {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(flops / per_s, 1),
        "memory_bytes": state + _number(optimization.max_batch_tokens) * 24_000,
        "basis": "6 * parameters (without embeddings) * tokens at 45 GFLOP/s a core, or 30 TFLOP/s "
        "on a GPU; 16 bytes a parameter and 24 kB a token of the largest batch",
    }


def _epochs(count: int, batch_size: int) -> int:
    if count >= FEW_ROWS:
        return EPOCHS
    steps_an_epoch = math.ceil(count / batch_size)
    return max(EPOCHS, min(MAX_FEW_EPOCHS, math.ceil(FEW_STEPS / steps_an_epoch)))


def _batch_tokens(facts: Facts) -> int:
    """Half of what the optimizer's state leaves free, at 24 kB a token (measured on MiniLM-L6).

    Rounded down to a power of two, so that a little more or less free memory changes nothing.
    """
    free = max(0, facts.memory_bytes - facts.num_parameters * 16)
    limit = 4096 if facts.device == "cpu" else 65_536
    tokens = max(512, min(limit, free // 2 // 24_000))
    return 1 << (tokens.bit_length() - 1)


def _precision(facts: Facts) -> str:
    """bf16 needs no loss scaling; GPUs before Ampere have fp16 only, and CPUs emulate both."""
    if not facts.device.startswith("cuda"):
        return "fp32"
    return "bf16" if facts.has_bf16 else "fp16"


def _number(value: int | str) -> int:
    if isinstance(value, str):
        message = "the spec has not been resolved"
        raise TypeError(message)
    return value

"""What `"auto"` stands for in a pretraining, from corpus, model and hardware. Pure and torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidSpec
from app.spec.pretrain import Pretrain
from app.spec.resolve import (
    MAX_EVALUATIONS,
    MIN_EVALUATIONS,
    batch_tokens,
    needs,
    num_steps,
    place_of,
)

SHORT, LONG = 128, 512  # Devlin et al. 2019, A.2 has both; Liu et al. 2019, 4.2 the longer
WARMUP = 0.06  # Liu et al. 2019, table 9; Gururangan et al. 2020, table 13
STEPS_AN_EPOCH = 100  # a choice: a batch of a small corpus is small, so that there are steps
MIN_BATCH, MAX_BATCH = (
    8,
    256,
)  # rows; 256 is Devlin et al.'s, and Gururangan et al.'s for small corpora
FRESH_STEPS, FRESH_EPOCHS = 10_000, 40  # a choice, within Devlin et al.'s 40 passes (A.2)
MORE_STEPS, MORE_EPOCHS = (
    2_000,
    100,
)  # a choice, within Gururangan et al.'s 100 passes for small ones
SMALL, LARGE = 30_000_000, 200_000_000  # parameters
MIN_LENGTH = 8


@dataclass(frozen=True)
class CorpusFacts:
    """What is known once the corpus is counted and the model is found; `tokens` are those learned from.

    `num_rows` says how many rows they make at a length, packed or not.
    """

    tokens: int
    num_documents: int
    num_rows: Callable[[int, bool], int]
    num_parameters: int
    num_embeddings: int
    model_max_length: int
    memory_bytes: int
    device: str
    is_fresh: bool
    has_bf16: bool = True
    cores: int = 1
    row_tokens: Callable[[int], int] = lambda length: (
        length
    )  # that a row of this length is in memory
    num_trained: int | None = None


def resolve_pretrain(spec: Pretrain, facts: CorpusFacts) -> Pretrain:
    """Return the spec with no `"auto"` left in optimization and runtime.

    Raises:
        InvalidSpec: a length that leaves no room for a text.
    """
    given = spec.optimization
    length = given.max_length
    if length == "auto":
        # A row of short documents is mostly other ones: length brings no context, and costs its square.
        short = facts.tokens <= SHORT * facts.num_documents
        length = SHORT if short else LONG
    length = min(length, facts.model_max_length)
    if length < MIN_LENGTH:
        message = f"optimization.max_length: {MIN_LENGTH} or more leave room for a text"
        raise InvalidSpec(message, param="optimization.max_length")
    packing = given.packing is not False
    rows = facts.num_rows(length, packing)
    batch = _batch_size(rows) if given.batch_size == "auto" else given.batch_size
    steps_an_epoch = math.ceil(rows / batch)
    tokens = given.max_batch_tokens
    if tokens == "auto":
        tokens = batch_tokens(facts)
    optimization = given.model_copy(
        update={
            "max_length": length,
            "packing": packing,
            "batch_size": batch,
            "epochs": _epochs(facts, steps_an_epoch) if given.epochs == "auto" else given.epochs,
            "max_batch_tokens": max(tokens, facts.row_tokens(length)),
            "learning_rate": _rate(spec, facts)
            if given.learning_rate == "auto"
            else given.learning_rate,
            "warmup": _warmup(spec) if given.warmup == "auto" else given.warmup,
        }
    )
    whole = int(optimization.epochs) * steps_an_epoch
    steps = min(optimization.max_steps or whole, whole)
    return spec.model_copy(
        update={"optimization": optimization, "runtime": _runtime(spec, facts, steps)}
    )


def estimate_pretrain(resolved: Pretrain, facts: CorpusFacts) -> dict[str, Any]:
    """Return steps, tokens, seconds and memory of the training, with how they were counted."""
    optimization = resolved.optimization
    length, batch = int(optimization.max_length), int(optimization.batch_size)
    rows = facts.num_rows(length, optimization.packing is True)
    an_epoch = math.ceil(rows / batch)
    steps = num_steps(optimization, rows)
    tokens = round(facts.tokens * steps / an_epoch)
    # 6 N T: Kaplan et al. 2020 (arXiv 2001.08361), 2.1; the output matrix multiplies, so that it counts.
    flops = 6 * facts.num_parameters * tokens
    cost: dict[str, Any] = {"steps": steps, "tokens": tokens}
    cost |= needs(facts, flops, int(optimization.max_batch_tokens))
    return cost | {
        "basis": "6 * parameters * tokens at 45 GFLOP/s a core, or 30 TFLOP/s on a GPU; 4 bytes a "
        "parameter, 12 more where it trains, 24 kB a token of the largest batch; the corpus stays on disk",
    }


def _batch_size(rows: int) -> int:
    """Return the power of two that makes about so many steps of an epoch."""
    wanted = max(1, rows // STEPS_AN_EPOCH)
    return max(MIN_BATCH, min(MAX_BATCH, 1 << (wanted.bit_length() - 1)))


def _epochs(facts: CorpusFacts, steps_an_epoch: int) -> int:
    steps, most = (FRESH_STEPS, FRESH_EPOCHS) if facts.is_fresh else (MORE_STEPS, MORE_EPOCHS)
    return max(1, min(most, math.ceil(steps / steps_an_epoch)))


def _rate(spec: Pretrain, facts: CorpusFacts) -> float:
    """Return the rate of AdamW.

    Random weights: 1e-3 to 1e-4 by size (BERT-base 1e-4, RoBERTa-base 6e-4 at large batches, small ones
    more); further pretraining of all weights 1e-4 (Gururangan et al. 2020, table 13), of large ones less.
    """
    size = facts.num_parameters
    if facts.is_fresh:
        return 1e-3 if size < SMALL else 5e-4 if size < LARGE else 1e-4
    if spec.method.name() == "full":
        return 1e-4 if size < LARGE else 2e-5
    return spec.chosen_method.learning_rate(size)


def _warmup(spec: Pretrain) -> float:
    return 0.0 if spec.optimization.schedule == "constant" else WARMUP


def _runtime(spec: Pretrain, facts: CorpusFacts, steps: int) -> Any:
    given = spec.runtime
    every = given.evaluate_every
    if every == "auto":
        every = max(1, math.ceil(steps / MIN_EVALUATIONS))
    checkpoint = given.checkpoint_every
    return given.model_copy(
        update={
            "seeds": 1,
            "evaluate_every": every,
            "checkpoint_every": max(1, min(every, math.ceil(steps / MAX_EVALUATIONS)))
            if checkpoint == "auto"
            else checkpoint,
        }
        | place_of(given, facts)
    )

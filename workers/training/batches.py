"""Which examples make up which step: a pure function of lengths, sizes, seed and epoch.

Nothing is remembered between steps, so resuming is arithmetic. Batches hold examples of similar
length (little padding) and come in random order (little bias): a permutation of the epoch is cut into
mega-chunks, each sorted by length and cut into batches, and the batches are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CHUNK_BATCHES = 50  # batches sorted together: enough to fill lengths, few enough to stay random


class BatchPlan:
    """The batches of every epoch. A batch is one optimizer step; its parts fit the token budget."""

    def __init__(
        self, lengths: Sequence[int], *, batch_size: int, max_tokens: int, epochs: int, seed: int,
        max_steps: int | None = None,
    ) -> None:  # fmt: skip
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self._seed = seed
        self._epoch = lru_cache(maxsize=2)(self._plan)
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self.total_steps = min(max_steps or 10**9, self.steps_per_epoch * epochs)

    def batch(self, step: int) -> list[int]:
        """Return the example indices of optimizer step `step`, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[position]

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the batch in parts that, padded to their longest, are within the token budget."""
        return fit_tokens(self.batch(step), self._lengths, self._max_tokens)

    def _plan(self, epoch: int) -> list[list[int]]:
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        order = generator.permutation(len(self._lengths))
        chunk = self._batch_size * CHUNK_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += [
                part[i : i + self._batch_size].tolist()
                for i in range(0, len(part), self._batch_size)
            ]
        return [batches[i] for i in generator.permutation(len(batches))]


def fit_tokens(
    indices: Sequence[int], lengths: Sequence[int] | NDArray[np.int64], max_tokens: int
) -> list[list[int]]:
    """Cut indices, sorted by length, into parts of at most `max_tokens` padded tokens each.

    A single example longer than the budget is a part of its own.
    """
    ordered = sorted(indices, key=lambda index: (int(lengths[index]), index))
    parts: list[list[int]] = []
    current: list[int] = []
    for index in ordered:
        if current and (len(current) + 1) * int(lengths[index]) > max_tokens:
            parts.append(current)
            current = []
        current.append(index)
    return [*parts, current] if current else parts


def padding_share(plan: BatchPlan, lengths: Sequence[int]) -> float:
    """Return the share of padding among all tokens of the first epoch."""
    real = padded = 0
    for step in range(min(plan.steps_per_epoch, plan.total_steps)):
        for part in plan.micro_batches(step):
            real += sum(int(lengths[i]) for i in part)
            padded += len(part) * max(int(lengths[i]) for i in part)
    return 1.0 - real / padded if padded else 0.0

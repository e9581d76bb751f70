"""Which rows of a token file make up which step: computed, never remembered, however large the file is.

The order of an epoch is a keyed permutation of the rows' numbers that is evaluated where it is asked for
(a Feistel network with cycle walking), so that no list of a large corpus's rows is ever in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.training.batches import BatchPlan

ROUNDS = 4  # a pseudorandom permutation needs three: Luby & Rackoff 1988


class Permutation:
    """A permutation of range(count) for a key; Black & Rogaway 2002 for the cycle walking."""

    def __init__(self, count: int, key: Sequence[int]) -> None:
        self._count = count
        self._half = max(
            1, ((count - 1).bit_length() + 1) // 2
        )  # bits; both halves together hold count
        self._keys = np.random.SeedSequence(list(key)).generate_state(ROUNDS, np.uint64)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each position goes."""
        found = self._shuffled(positions.astype(np.uint64))
        while (is_out := found >= self._count).any():
            found[is_out] = self._shuffled(found[is_out])
        return found.astype(np.int64)

    def _shuffled(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bits = np.uint64(self._half)
        low_mask = np.uint64(2**self._half - 1)
        high, low = values >> bits, values & low_mask
        for key in self._keys:
            high, low = low, high ^ (_mixed(low ^ key) & low_mask)
        return (high << bits) | low


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return each number's bits mixed: the finalizer of SplitMix64, Steele et al. 2014."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class BlockPlan(BatchPlan):
    """The batches of rows that are all of one length, in another order in each epoch.

    The indices that it returns are those of `app.adapt.token_rows.Rows`, which count on over the epochs.
    """

    def __init__(  # noqa: PLR0913 - all by name; the shape of a training
        self, count: int, *, width: int, batch_size: int, max_tokens: int, epochs: int, seed: int,
        max_steps: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__((), batch_size=batch_size, max_tokens=max_tokens, epochs=epochs, seed=seed)
        self._count = count
        self._rows_at_once = max(1, max_tokens // width)
        self.steps_per_epoch = -(-count // batch_size)
        self.total_steps = min(max_steps or 10**9, self.steps_per_epoch * epochs)

    def batch(self, step: int) -> list[int]:
        """See `BatchPlan.batch`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        begin = position * self._batch_size
        positions = np.arange(begin, min(self._count, begin + self._batch_size))
        order = Permutation(self._count, [self._seed, epoch])
        return (order(positions) + epoch * self._count).tolist()

    def micro_batches(self, step: int) -> list[list[int]]:
        """See `BatchPlan.micro_batches`."""
        batch, size = self.batch(step), self._rows_at_once
        return [batch[at : at + size] for at in range(0, len(batch), size)]


class EpochPlan(BatchPlan):
    """The batches of rows of several lengths, as a fine-tuning has them, with indices that count on."""

    def __init__(self, lengths: Sequence[int] | NDArray[np.int64], **options: Any) -> None:
        super().__init__(lengths, **options)  # pyright: ignore[reportArgumentType] - an array is read once

    def micro_batches(self, step: int) -> list[list[int]]:
        """See `BatchPlan.micro_batches`."""
        epoch = step // self.steps_per_epoch
        offset = epoch * len(self._lengths)
        return [[index + offset for index in part] for part in super().micro_batches(step)]

"""Batches that the product does not make, to compare its own with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workers.training.batches import BatchPlan


class RandomPlan(BatchPlan):
    """A permutation of each epoch, cut into batches that go through the network whole: the usual way."""

    def __init__(
        self, lengths: Sequence[int], *, batch_size: int, seed: int, **others: Any
    ) -> None:
        super().__init__(lengths, batch_size=batch_size, seed=seed, **others)
        self.count, self.size, self.seed = len(lengths), batch_size, seed

    def batch(self, step: int) -> list[int]:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return order[position * self.size : (position + 1) * self.size].tolist()

    def micro_batches(self, step: int) -> list[list[int]]:
        return [self.batch(step)]

"""Batches of several tasks: every step has rows of each, as many as its size to some power asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.training.batches import BatchPlan


@dataclass(frozen=True)
class Mixture:
    """How many rows each task has, in the order in which they lie one behind the other."""

    sizes: Sequence[int]
    exponent: float

    def rows_a_step(self, batch_size: int) -> list[int]:
        """Return how many rows of each task a step has: b_k ~ n_k^exponent, at least one, at most n_k."""
        powers = [size**self.exponent for size in self.sizes]
        shares = [batch_size * power / sum(powers) for power in powers]
        return [
            min(size, max(1, round(share))) for size, share in zip(self.sizes, shares, strict=True)
        ]


class MixedPlan(BatchPlan):
    """The batches of every step, the parts of one task after those of another.

    Each task has a plan of its own and goes round in it at its own pace. An epoch is as many steps as all
    rows together fill.
    """

    def __init__(  # noqa: PLR0913 - those of its base, and the mixture
        self, lengths: Sequence[int], *, batch_size: int, max_tokens: int, epochs: int, seed: int,
        max_steps: int | None = None, mixture: Mixture,
    ) -> None:  # fmt: skip
        super().__init__(
            lengths, batch_size=batch_size, max_tokens=max_tokens, epochs=epochs, seed=seed,
            max_steps=max_steps,
        )  # fmt: skip
        self._starts: list[int] = []
        self._plans: list[BatchPlan] = []
        start = 0
        for size, rows in zip(mixture.sizes, mixture.rows_a_step(batch_size), strict=True):
            plan = BatchPlan(
                lengths[start : start + size], batch_size=rows, max_tokens=max_tokens, epochs=1,
                seed=seed,
            )  # fmt: skip
            self._starts.append(start)
            self._plans.append(plan)
            start += size

    def batch(self, step: int) -> list[int]:
        """Return the indices of step `step` among all rows."""
        return [index for part in self.micro_batches(step) for index in part]

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the batch in parts of one task each that are within the token budget."""
        return [
            [start + index for index in part]
            for start, plan in zip(self._starts, self._plans, strict=True)
            for part in plan.micro_batches(step)
        ]

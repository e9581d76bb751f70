"""The loop of a pretraining: as any other, but that its rows are not in memory, nor a list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.adapt.token_rows import Rows
from workers.training.batches import BatchPlan
from workers.training.block_plan import BlockPlan, EpochPlan
from workers.training.course import Setup
from workers.training.loop import Loop
from workers.training.report import Report


class PretrainLoop(Loop[Setup]):
    """Trains on the rows of a token file; `width` is how many tokens a full one has."""

    def __init__(
        self, setup: Setup, rows: Rows, width: int, report: Report, should_drain: Callable[[], bool]
    ) -> None:
        self._rows, self._width = rows, width
        super().__init__(replace(setup, train=rows), report, should_drain)

    def _can_pack(self) -> bool:
        return self.optimization.packing is True

    def _plan(self) -> BatchPlan:
        given, rows = self.optimization, self._rows
        sizes = {
            "batch_size": int(given.batch_size),
            "max_tokens": self.state.max_batch_tokens,
            "epochs": int(given.epochs),
            "seed": self.seed,
        }
        if rows.lengths is None:
            return BlockPlan(len(rows), width=self._width, max_steps=given.max_steps, **sizes)
        return EpochPlan(rows.lengths, max_steps=given.max_steps, **sizes)

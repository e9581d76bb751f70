"""One training for each seed, one after the other, in one run; the best weights of all of them stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workers.protocol import ResolvedEvent
from workers.training.course import C
from workers.training.device import environment
from workers.training.loop import Loop
from workers.training.report import Report


def begin(
    setup: C, data_report: dict[str, Any], report: Report, should_drain: Callable[[], bool]
) -> tuple[Loop[C], int | None]:
    """Return the first loop, where an earlier run left it, and the step of that; say what is resolved."""
    loop = Loop(setup, report, should_drain)
    return loop, resume(loop, data_report)


def resume(loop: Loop[C], data_report: dict[str, Any]) -> int | None:
    """Bring a new loop to where an earlier run left it, and return the step; say what is resolved."""
    start = loop.restore()
    loop.report.emit(
        ResolvedEvent(
            spec=loop.spec.model_dump(mode="json"),
            data=data_report,
            environment=environment(loop.setup.stage.device),
            resumed_from_step=start,
        )
    )
    return start


def run_seeds(loop: Loop[C], setup_of: Callable[[int], C]) -> Loop[C]:
    """Train with the loop's seed and those after it; return the last loop, with the best weights.

    `setup_of` makes the setup of a seed by its number from 0; it is asked for those after the loop's.

    Raises:
        Drained: asked to stop; a checkpoint has been saved.
    """
    loop.run()
    while not loop.is_last_seed:
        before = loop
        number = len(before.state.seeds) + 1
        loop = Loop(setup_of(number), before.report, before.should_drain)
        loop.follow(before)
        loop.report.log(f"Seed {loop.seed}, number {number + 1} of {loop.runtime.seeds}")
        loop.run()
    loop.finish()
    return loop

"""Jobs that ask models in the real trainer, killed and drained: the result is the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.asked import Asking, of
from tests.trainer_child import (
    TrainerChild,
    references,
)
from workers.protocol import (
    CheckpointEvent,
    DoneEvent,
    Drain,
    DrainedEvent,
    Event,
    ProgressEvent,
    ResolvedEvent,
)


@pytest.fixture
def start() -> Iterator[Callable[[], TrainerChild]]:
    children: list[TrainerChild] = []

    def make() -> TrainerChild:
        children.append(TrainerChild())
        return children[-1]

    yield make
    for child in children:
        child.close()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("kind", "rows", "most"), [("batch_predict", 400, 20), ("evaluate", 2000, 1)]
)
def test_killed_anywhere_it_ends_with_the_same_result(kind, rows, most, tmp_path, start):
    asking = Asking(tmp_path, rows=rows)
    spec = asking.spec(kind)

    def run(seen: list[Event], until: Callable[[Event], bool] | None = None) -> list[Event]:
        child = start()
        child.send(asking.assignment(spec, references(seen)))
        if until is None:
            child.until_end()
        else:
            child.until(until)
            child.kill()
        return child.seen

    reference = run([])[-1]
    assert isinstance(reference, DoneEvent), reference
    rng = random.Random(kind)  # noqa: S311 - where to kill
    seen: list[Event] = []
    for _ in range(2):
        count = rng.randint(0, most)

        def is_far(event: Event) -> bool:
            nonlocal left
            left = left - isinstance(event, CheckpointEvent | ProgressEvent)
            return left < 0

        left = count
        seen += run(seen, is_far)
    seen += run(seen)
    done = seen[-1]
    assert isinstance(done, DoneEvent), done
    assert [o.sha256 for o in done.outputs] == [o.sha256 for o in reference.outputs]
    assert done.report == reference.report
    if kind == "batch_predict":
        starts = [event.resumed_from_step for event in of(seen, ResolvedEvent)]
        assert any(starts[1:]), "some chunk was on record when it was killed"


def test_told_to_stop_over_the_pipe(tmp_path, start):
    asking = Asking(tmp_path, rows=3_000)
    first = start()
    first.send(asking.assignment(asking.spec("evaluate"), []))
    first.until(lambda event: isinstance(event, ProgressEvent))
    first.send(Drain())
    assert isinstance(first.until_end(), DrainedEvent)
    (kept,) = of(first.seen, CheckpointEvent)
    second = start()
    second.send(asking.assignment(asking.spec("evaluate"), references(first.seen)))
    done = second.until_end()
    assert isinstance(done, DoneEvent), done
    assert of(second.seen, ResolvedEvent)[0].resumed_from_step == kept.step
    undisturbed = start()
    undisturbed.send(asking.assignment(asking.spec("evaluate"), []))
    assert undisturbed.until_end() == done

"""Dynamic batching: what is run together, when, and what happens to those who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import Overloaded, Unavailable
from app.serving.batcher import Batcher

WAIT_S = 10.0


class Work:
    """Runs batches of strings to upper case, holding the first until told, and remembers all."""

    def __init__(self, *, holds: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.may_run = threading.Event()
        self.has_started = threading.Event()
        if not holds:
            self.may_run.set()

    def __call__(self, values: list[str]) -> Sequence[str]:
        self.batches.append(values)
        self.has_started.set()
        assert self.may_run.wait(WAIT_S)
        if "broken" in values:
            message = "broken"
            raise RuntimeError(message)
        return [value.upper() for value in values]


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def make(work: Work, executor, max_tokens=100, max_queued=100) -> Batcher[str, str]:
    return Batcher(work, executor, max_tokens=max_tokens, max_queued=max_queued)


async def held(batcher: Batcher[str, str], work: Work) -> asyncio.Task[list[str]]:
    """Keep the batcher busy with one input, so that what comes next has to wait."""
    first = asyncio.ensure_future(batcher.submit(["first"]))
    await asyncio.to_thread(work.has_started.wait, WAIT_S)
    return first


async def queued(batcher: Batcher[str, str], *requests: list[str]) -> list[asyncio.Task[list[str]]]:
    tasks = [asyncio.ensure_future(batcher.submit(values)) for values in requests]
    await asyncio.sleep(0)
    return tasks


def test_an_idle_model_runs_at_once(executor):
    work = Work()

    async def go():
        assert await make(work, executor).submit(["b", "aa"]) == ["B", "AA"]

    asyncio.run(go())
    assert work.batches == [["b", "aa"]]


def test_nothing_in_nothing_out(executor):
    work = Work()
    assert asyncio.run(make(work, executor).submit([])) == []
    assert work.batches == []


def test_what_waits_runs_together_and_each_gets_its_own(executor):
    work = Work(holds=True)

    async def go():
        batcher = make(work, executor)
        first = await held(batcher, work)
        tasks = await queued(batcher, ["ccc"], ["a", "dddd"], ["bb"])
        work.may_run.set()
        assert await asyncio.gather(first, *tasks) == [["FIRST"], ["CCC"], ["A", "DDDD"], ["BB"]]

    asyncio.run(go())
    assert work.batches == [["first"], ["a", "bb", "ccc", "dddd"]]


def test_a_batch_keeps_to_the_token_budget(executor):
    work = Work()
    values = [letter * length for length in range(1, 12) for letter in "xyz"]

    async def go():
        assert await make(work, executor, max_tokens=20).submit(values) == [
            value.upper() for value in values
        ]

    asyncio.run(go())
    assert sorted(value for batch in work.batches for value in batch) == sorted(values)
    for batch in work.batches:
        assert max(map(len, batch)) * len(batch) <= 20
    assert len(work.batches) < len(values) / 1.5


def test_an_input_longer_than_the_budget_runs_alone(executor):
    work = Work()
    asyncio.run(make(work, executor, max_tokens=4).submit(["a", "b" * 9, "c"]))
    assert ["b" * 9] in work.batches


def test_the_oldest_input_is_in_the_next_batch(executor):
    """Whatever its length: sorting by length must not let a long text starve."""
    work = Work(holds=True)

    async def go():
        batcher = make(work, executor, max_tokens=30)
        first = await held(batcher, work)
        tasks = await queued(batcher, ["long" * 7], *[["s"] for _ in range(40)])
        work.may_run.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(go())
    assert work.batches[1] == ["long" * 7]


def test_a_cancelled_request_is_not_run(executor):
    work = Work(holds=True)

    async def go():
        batcher = make(work, executor)
        first = await held(batcher, work)
        gone, stays = await queued(batcher, ["gone", "too"], ["stays"])
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        work.may_run.set()
        assert await asyncio.gather(first, stays) == [["FIRST"], ["STAYS"]]

    asyncio.run(go())
    assert work.batches == [["first"], ["stays"]]


def test_a_full_queue_says_so_and_recovers(executor):
    work = Work(holds=True)

    async def go():
        batcher = make(work, executor, max_queued=3)
        first = await held(batcher, work)
        (waiting,) = await queued(batcher, ["a", "b"])
        with pytest.raises(Overloaded, match="2 inputs are waiting"):
            await batcher.submit(["c", "d"])
        work.may_run.set()
        await asyncio.gather(first, waiting)
        assert await batcher.submit(["c", "d"]) == ["C", "D"]

    asyncio.run(go())


def test_a_request_larger_than_the_queue_runs_when_nothing_waits(executor):
    work = Work()
    values = [str(number) for number in range(10)]
    assert asyncio.run(make(work, executor, max_queued=3).submit(values)) == values


def test_an_error_reaches_its_batch_and_no_other(executor):
    work = Work(holds=True)

    async def go():
        batcher = make(work, executor, max_tokens=12)
        first = await held(batcher, work)
        bad, good = await queued(batcher, ["broken", "later" * 4], ["good" * 3])
        work.may_run.set()
        results = await asyncio.gather(first, bad, good, return_exceptions=True)
        assert results[0] == ["FIRST"]
        assert isinstance(results[1], RuntimeError)
        assert results[2] == ["GOOD" * 3]
        assert await batcher.submit(["on"]) == ["ON"]

    asyncio.run(go())
    assert ["later" * 4] not in work.batches


def test_closing_fails_what_waits(executor):
    work = Work(holds=True)

    async def go():
        batcher = make(work, executor)
        first = await held(batcher, work)
        (waiting,) = await queued(batcher, ["a"])
        batcher.close()
        work.may_run.set()
        assert await first == ["FIRST"]
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await batcher.submit(["b"])

    asyncio.run(go())

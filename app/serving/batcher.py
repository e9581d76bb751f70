"""Batches for one model, made of whatever is waiting. Knows lengths and a budget, not tensors.

One owner task runs one batch after the other. It never waits for a batch to fill: an input that finds
the model idle runs at once, and those that come meanwhile are the next batch. That is the whole trick:
batches grow exactly as fast as the load does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from app.errors import Overloaded, Unavailable
from app.telemetry import BATCH_INPUTS


class Sized(Protocol):
    """An input whose length is in tokens."""

    def __len__(self) -> int: ...


In = TypeVar("In", bound=Sized)
Out = TypeVar("Out")


@dataclass(eq=False)
class _Request(Generic[Out]):
    future: asyncio.Future[list[Out]]
    missing: int
    results: dict[int, Out] = field(default_factory=dict[int, Out])

    def deliver(self, index: int, result: Out) -> None:
        self.results[index] = result
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result([result for _, result in sorted(self.results.items())])

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(eq=False)
class _Item(Generic[In, Out]):
    value: In
    index: int
    order: int
    request: _Request[Out]


class Batcher(Generic[In, Out]):
    """Runs inputs through `run`, which gets a batch sorted by length, in a thread of `executor`.

    A batch costs (longest length x inputs) tokens, at most `max_tokens`; one input alone may be longer.
    """

    def __init__(
        self, run: Callable[[list[In]], Sequence[Out]], executor: Executor, *,
        max_tokens: int, max_queued: int,
    ) -> None:  # fmt: skip
        self._run = run
        self._executor = executor
        self._max_tokens = max_tokens
        self._max_queued = max_queued
        self._waiting: list[_Item[In, Out]] = []
        self._order = 0
        self._owner: asyncio.Task[None] | None = None
        self._is_closed = False

    async def submit(self, values: Sequence[In]) -> list[Out]:
        """Return one result for each value, in their order. When cancelled, what waits is dropped.

        Raises:
            Overloaded: too many inputs are waiting. An idle model takes a request of any size.
            Unavailable: the batcher is closed.
        """
        if self._is_closed:
            raise Unavailable(_CLOSED, code="shutting_down")
        if not values:
            return []
        if self._waiting and len(self._waiting) + len(values) > self._max_queued:
            message = f"{len(self._waiting)} inputs are waiting for this model; try again"
            raise Overloaded(message, code="too_many_predictions")
        loop = asyncio.get_running_loop()
        request: _Request[Out] = _Request(loop.create_future(), len(values))
        for index, value in enumerate(values):
            self._waiting.append(_Item(value, index, self._order, request))
            self._order += 1
        # The owner lives only while there is work, so that an idle model costs nothing.
        if self._owner is None:
            self._owner = loop.create_task(self._own())
        try:
            return await request.future
        except asyncio.CancelledError:
            self._waiting = [item for item in self._waiting if item.request is not request]
            raise

    def close(self) -> None:
        """Fail what waits; a batch that is running ends unheard."""
        self._is_closed = True
        for item in self._waiting:
            item.request.fail(Unavailable(_CLOSED, code="shutting_down"))
        self._waiting = []

    async def _own(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = self._take()
                BATCH_INPUTS.observe(len(batch))
                values = [item.value for item in batch]
                try:
                    results = await loop.run_in_executor(self._executor, self._run, values)
                except Exception as error:  # noqa: BLE001 - it is the callers' to see
                    self._fail(batch, error)
                    continue
                for item, result in zip(batch, results, strict=True):
                    item.request.deliver(item.index, result)
        finally:
            self._owner = None

    def _take(self) -> list[_Item[In, Out]]:
        """Remove and return the next batch: the oldest input and those nearest to it in length."""
        self._waiting.sort(key=lambda item: (len(item.value), item.order))
        waiting = self._waiting
        oldest = min(range(len(waiting)), key=lambda i: waiting[i].order)
        start, stop = oldest, oldest + 1
        length = len(waiting[oldest].value)
        while True:
            below = length - len(waiting[start - 1].value) if start > 0 else None
            above = len(waiting[stop].value) - length if stop < len(waiting) else None
            count = stop - start + 1
            # A shorter one is padded to the longest so far; a longer one makes all others longer.
            if above is not None and (below is None or above <= below):
                if len(waiting[stop].value) * count <= self._max_tokens:
                    stop += 1
                    continue
                above = None
            if below is not None and len(waiting[stop - 1].value) * count <= self._max_tokens:
                start -= 1
                continue
            break
        self._waiting = waiting[:start] + waiting[stop:]
        return waiting[start:stop]

    def _fail(self, batch: list[_Item[In, Out]], error: Exception) -> None:
        """Fail every request that had an input in the batch, and drop the rest of its inputs."""
        failed = {item.request for item in batch}
        for request in failed:
            request.fail(error)
        self._waiting = [item for item in self._waiting if item.request not in failed]


_CLOSED = "the server is shutting down"

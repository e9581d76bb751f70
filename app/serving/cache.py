"""Loaded models, kept by the bytes they take. Knows nothing of what a model is. One event loop only.

The longest unused model goes first, but never one that is answering. The newest stays even when it is
larger than the limit: the alternative is to load it again for every request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.errors import Unavailable


class Held(Protocol):
    """What the cache holds."""

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        ...

    def close(self) -> None:
        """Give up what it owns; called once, when nobody uses it."""
        ...


T = TypeVar("T", bound=Held)


@dataclass(eq=False)
class _Entry(Generic[T]):
    loading: asyncio.Task[T]
    users: int = 0
    is_dropped: bool = False
    is_closed: bool = False

    @property
    def value(self) -> T | None:
        """The loaded thing; None while it loads and when loading failed."""
        task = self.loading
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def release(self) -> None:
        """Close the value if it is dropped and nobody uses it."""
        value = self.value
        if self.is_dropped and self.users == 0 and value is not None and not self.is_closed:
            self.is_closed = True
            value.close()


class ModelCache(Generic[T]):
    """Values by key, at most `max_bytes` of them together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._is_closed = False

    @asynccontextmanager
    async def use(self, key: str, load: Callable[[], Awaitable[T]]) -> AsyncGenerator[T, None]:
        """Give the value, loaded once however many ask; it stays until the block ends.

        An error of `load` reaches all who wait for it and is not kept: the next use tries again. A
        caller who gives up does not stop the load.

        Raises:
            Unavailable: the cache is closed.
        """
        if self._is_closed:
            message = "the server is shutting down"
            raise Unavailable(message, code="shutting_down")
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(asyncio.ensure_future(_await(load)))
            entry.loading.add_done_callback(lambda _, entry=entry: self._loaded(key, entry))
        self._entries.move_to_end(key)
        entry.users += 1
        try:
            yield await asyncio.shield(entry.loading)
        finally:
            entry.users -= 1
            entry.release()
            self._shrink()

    def evict(self, key: str) -> None:
        """Drop a value; it is closed after its last use."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.is_dropped = True
            entry.release()

    def keys(self) -> list[str]:
        """Return the keys of loaded values, the longest unused first."""
        return [key for key, entry in self._entries.items() if entry.value is not None]

    @property
    def bytes(self) -> int:
        """Bytes of all loaded values."""
        values = (entry.value for entry in self._entries.values())
        return sum(value.bytes for value in values if value is not None)

    def close(self) -> None:
        """Drop everything and take nothing in any more."""
        self._is_closed = True
        for key in list(self._entries):
            self.evict(key)

    def _loaded(self, key: str, entry: _Entry[T]) -> None:
        if entry.value is None:
            if self._entries.get(key) is entry:
                del self._entries[key]
            return
        entry.release()
        self._shrink()

    def _shrink(self) -> None:
        newest = next(reversed(self._entries), None)
        for key, entry in list(self._entries.items()):
            if self.bytes <= self._max_bytes:
                return
            if entry.users == 0 and entry.value is not None and key != newest:
                self.evict(key)


async def _await(load: Callable[[], Awaitable[T]]) -> T:
    return await load()

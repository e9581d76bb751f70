"""The cache of loaded models: loaded once, counted in bytes, never closed in use."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import Unavailable
from app.serving.cache import ModelCache


class Thing:
    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.bytes = size
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Store:
    """Loads things of 10 bytes and counts."""

    def __init__(self, max_bytes: int = 25, size: int = 10) -> None:
        self.cache: ModelCache[Thing] = ModelCache(max_bytes)
        self.size = size
        self.loaded: list[Thing] = []
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    def use(self, key: str):
        async def load() -> Thing:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            self.loaded.append(Thing(key, self.size))
            return self.loaded[-1]

        return self.cache.use(key, load)

    async def touch(self, *keys: str) -> None:
        for key in keys:
            async with self.use(key) as thing:
                assert thing.name == key
                assert not thing.closed

    @property
    def names(self) -> list[str]:
        return [thing.name for thing in self.loaded]


def test_loads_once_for_many_at_the_same_time():
    async def go():
        store = Store()
        await asyncio.gather(*(store.touch("a") for _ in range(20)))
        await store.touch("a")
        assert store.names == ["a"]

    asyncio.run(go())


def test_the_longest_unused_goes_first():
    async def go():
        store = Store()
        await store.touch("a", "b", "a", "c")
        assert store.cache.keys() == ["a", "c"]
        assert store.cache.bytes == 20
        assert [thing.closed for thing in store.loaded] == [0, 1, 0]
        await store.touch("b")
        assert store.names == ["a", "b", "c", "b"]

    asyncio.run(go())


def test_what_is_in_use_stays_until_it_is_not():
    async def go():
        store = Store(max_bytes=10)
        async with store.use("a") as a:
            await store.touch("b", "c")
            assert not a.closed
            assert store.cache.keys() == ["a", "c"]
        assert a.closed == 1
        assert store.cache.keys() == ["c"]

    asyncio.run(go())


def test_one_that_is_larger_than_the_cache_is_kept_while_it_is_the_newest():
    async def go():
        store = Store(max_bytes=5)
        await store.touch("a", "a")
        assert store.names == ["a"]
        await store.touch("b")
        assert store.cache.keys() == ["b"]

    asyncio.run(go())


def test_a_failed_load_reaches_all_and_is_tried_again():
    async def go():
        store = Store()
        store.error = ValueError("no")
        results = await asyncio.gather(
            *(store.touch("a") for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [ValueError] * 3
        assert store.cache.keys() == []
        store.error = None
        await store.touch("a")
        assert store.cache.keys() == ["a"]

    asyncio.run(go())


def test_eviction_waits_for_the_last_user():
    async def go():
        store = Store()
        async with store.use("a") as first:
            async with store.use("a"):
                store.cache.evict("a")
                assert store.cache.keys() == []
            assert first.closed == 0
            await store.touch("a")
            assert store.names == ["a", "a"]
        assert first.closed == 1
        store.cache.evict("a")
        store.cache.evict("nothing")
        assert [thing.closed for thing in store.loaded] == [1, 1]

    asyncio.run(go())


def test_evicted_while_loading_is_closed_after_its_use():
    async def go():
        store = Store()
        store.gate = asyncio.Event()
        user = asyncio.ensure_future(store.touch("a"))
        await asyncio.sleep(0)
        store.cache.evict("a")
        store.gate.set()
        await user
        assert [thing.closed for thing in store.loaded] == [1]
        assert store.cache.keys() == []

    asyncio.run(go())


def test_who_gives_up_does_not_stop_the_load():
    async def go():
        store = Store()
        store.gate = asyncio.Event()
        impatient = asyncio.ensure_future(store.touch("a"))
        patient = asyncio.ensure_future(store.touch("a"))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait([impatient])
        store.gate.set()
        await patient
        assert store.names == ["a"]
        assert store.cache.keys() == ["a"]

    asyncio.run(go())


def test_a_closed_cache_takes_nothing_and_closes_all():
    async def go():
        store = Store()
        await store.touch("a", "b")
        store.cache.close()
        assert [thing.closed for thing in store.loaded] == [1, 1]
        with pytest.raises(Unavailable):
            await store.touch("a")

    asyncio.run(go())

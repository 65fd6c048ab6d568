"""Who is in memory, who leaves, and who waits: the bookkeeping, with a loader that does as each test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from semia.serving.errors import ModelLoadError, ModelUnloadedError, NoRoomError
from semia.serving.proxy.model_cache import EXTRA_UNLOADING, PARALLEL_LOADS, ModelCache


class Shelf:
    """Loads and unloads names in a moment, keeps count, and fails as told."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.inside: set[str] = set()  # with those on their way in or out
        self.log: list[str] = []
        self.broken: set[str] = set()
        self.held = asyncio.Event()  # loads and unloads end when it is set
        self.held.set()
        self.most_loaded = self.most_inside = self.most_loading = self.loading = 0

    async def load(self, name: str) -> None:
        assert name not in self.inside
        self.log.append(f"+{name}")
        self.inside.add(name)
        self.loading += 1
        self.most_inside = max(self.most_inside, len(self.inside))
        self.most_loading = max(self.most_loading, self.loading)
        await asyncio.sleep(0.001)
        await self.held.wait()
        self.loading -= 1
        if name in self.broken:
            self.inside.discard(name)
            raise ModelLoadError(f"{name} is broken")
        self.loaded.add(name)
        self.most_loaded = max(self.most_loaded, len(self.loaded))

    async def unload(self, name: str) -> None:
        assert name in self.loaded
        self.log.append(f"-{name}")
        self.loaded.discard(name)
        await asyncio.sleep(0.001)
        await self.held.wait()
        self.inside.discard(name)


def scenario(test: Callable[[Shelf], Awaitable[None]]) -> Callable[[], None]:
    """A test that runs in a loop of its own; nothing in it takes ten seconds."""

    def run() -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(Shelf()), 10)

        asyncio.run(bounded())

    run.__name__ = run.__qualname__ = getattr(test, "__name__", "scenario")
    return run


async def call(models: ModelCache, *names: str) -> None:
    for name in names:
        async with models.use(name):
            assert models.is_loaded(name)


async def settle() -> None:
    await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def in_use(models: ModelCache, *names: str) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(models.use(name))
        yield


@scenario
async def test_the_least_recently_used_leaves(shelf: Shelf) -> None:
    models = ModelCache(2, shelf)
    await call(models, "a", "b", "a", "c")
    await settle()
    assert shelf.loaded == {"a", "c"}
    await call(models, "c", "a", "b")
    await settle()
    assert shelf.loaded == {"a", "b"}
    assert shelf.log.count("+a") == 1
    assert sorted(shelf.log) == sorted(["+a", "+b", "-b", "+c", "-c", "+b"])


@scenario
async def test_a_hundred_callers_of_a_cold_model_load_it_once(shelf: Shelf) -> None:
    models = ModelCache(2, shelf)
    await asyncio.gather(*(call(models, "a") for _ in range(100)))
    assert shelf.log == ["+a"]


@scenario
async def test_a_model_with_calls_in_flight_stays(shelf: Shelf) -> None:
    models = ModelCache(2, shelf)
    async with models.use("a"):
        await call(models, "b", "c", "d")
        await settle()
        assert "a" in shelf.loaded
    assert "-a" not in shelf.log


@scenario
async def test_a_newcomer_waits_until_a_busy_model_is_idle_and_newcomers_keep_their_order(shelf: Shelf) -> None:
    models = ModelCache(1, shelf)
    arrivals: list[str] = []

    async def come(name: str) -> None:
        async with models.use(name):
            arrivals.append(name)

    async with models.use("a"):
        newcomers = []
        for name in ("b", "c", "b", "d"):
            newcomers.append(asyncio.create_task(come(name)))
            await settle()
        assert arrivals == []
        assert shelf.log == ["+a"]
    await asyncio.gather(*newcomers)
    assert arrivals == ["b", "b", "c", "d"]


@scenario
async def test_models_stay_until_a_newcomer_can_be_loaded_in_their_place(shelf: Shelf) -> None:
    models = ModelCache(6, shelf)
    await call(models, *"abcdef")
    shelf.held.clear()
    newcomers = [asyncio.create_task(call(models, name)) for name in "uvwxyz"]
    await settle()
    assert shelf.log[6:].count("+u") == 1
    assert {entry for entry in shelf.log if entry.startswith("-")} == {"-a", "-b"}, "as many as are loaded at once"
    await asyncio.wait_for(call(models, "f"), 1)
    shelf.held.set()
    await asyncio.gather(*newcomers)


@scenario
async def test_a_newcomer_is_turned_away_where_no_model_falls_idle(shelf: Shelf) -> None:
    models = ModelCache(2, shelf, room_timeout_s=0.05)
    async with in_use(models, "a", "b"):
        with pytest.raises(NoRoomError, match=r"no room among the 2 models that may be in memory, for 0\.05 s"):
            await call(models, "c")
        await call(models, "a", "b")
    await call(models, "c")
    assert shelf.log.count("+c") == 1


@scenario
async def test_a_newcomer_that_gives_up_leaves_nothing_behind(shelf: Shelf) -> None:
    models = ModelCache(1, shelf)
    async with models.use("a"):
        waiting = [asyncio.create_task(call(models, "b")) for _ in range(2)]
        await settle()
        waiting[0].cancel()
        await settle()
        assert not waiting[1].done(), "one that gives up does not take the others along"
        waiting[1].cancel()
        await settle()
    await settle()
    assert shelf.log == ["+a"], "nobody wants b any more"
    await call(models, "b")
    assert shelf.loaded == {"b"}


@scenario
async def test_a_load_whose_callers_have_gone_is_finished_and_counts(shelf: Shelf) -> None:
    models = ModelCache(1, shelf)
    shelf.held.clear()
    caller = asyncio.create_task(call(models, "a"))
    await settle()
    caller.cancel()
    await settle()
    shelf.held.set()
    await settle()
    assert models.is_loaded("a")
    await call(models, "b")
    await settle()
    assert shelf.inside == {"b"}


@scenario
async def test_a_model_that_cannot_be_loaded_says_why_takes_no_room_and_is_tried_again_after_a_pause(
    shelf: Shelf,
) -> None:
    models = ModelCache(1, shelf, retry_after_s=0.1)
    shelf.broken.add("a")
    results = await asyncio.gather(*(call(models, "a") for _ in range(5)), return_exceptions=True)
    assert [str(result) for result in results] == ["a is broken"] * 5
    with pytest.raises(ModelLoadError):
        await call(models, "a")
    assert shelf.log == ["+a"]
    assert str(models.recent_failure("a")) == "a is broken"
    await call(models, "b")
    shelf.broken.clear()
    await asyncio.sleep(0.1)
    assert models.recent_failure("a") is None
    await call(models, "a")
    assert models.is_loaded("a")


@scenario
async def test_a_failure_can_be_forgotten(shelf: Shelf) -> None:
    models = ModelCache(1, shelf)
    shelf.broken.add("a")
    with pytest.raises(ModelLoadError):
        await call(models, "a")
    shelf.broken.clear()
    models.allow("a")
    await call(models, "a")


@scenario
async def test_unloading_waits_for_the_calls_in_flight_and_later_calls_are_refused(shelf: Shelf) -> None:
    models = ModelCache(2, shelf)
    await models.unload("never loaded")
    async with models.use("a"):
        unloading = asyncio.create_task(models.unload("a"))
        await settle()
        later = asyncio.create_task(call(models, "a"))
        await settle()
        assert not unloading.done()
        assert not later.done()
        assert shelf.log == ["+a"]
    await unloading
    assert models.is_unloaded("a")
    with pytest.raises(ModelUnloadedError, match="'a' was unloaded"):
        await later
    assert shelf.log == ["+a", "-a"]
    models.allow("a")
    await call(models, "a")


@scenario
async def test_unloading_a_model_on_its_way_in(shelf: Shelf) -> None:
    models = ModelCache(1, shelf)
    shelf.held.clear()
    caller = asyncio.create_task(call(models, "a"))
    await settle()
    unloading = asyncio.create_task(models.unload("a"))
    await settle()
    shelf.held.set()
    await asyncio.gather(caller, unloading)
    assert shelf.log == ["+a", "-a"]
    assert shelf.inside == set()


@scenario
async def test_closing_ends_what_goes_on(shelf: Shelf) -> None:
    models = ModelCache(1, shelf)
    shelf.held.clear()
    callers = [asyncio.create_task(call(models, name)) for name in ("a", "b")]
    await settle()
    await models.close()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_the_bounds_hold_whatever_comes(limit: int) -> None:
    @scenario
    async def storm(shelf: Shelf) -> None:
        models = ModelCache(limit, shelf, retry_after_s=0.005)
        shelf.broken = {"m3"}
        chance = np.random.default_rng(limit)

        async def visit() -> int:
            failures = 0
            for _ in range(25):
                name = f"m{chance.integers(20)}"
                try:
                    async with asyncio.timeout(chance.choice([0.0005, 5, 5, 5])):
                        if chance.random() < 0.1:
                            await models.unload(name)
                            models.allow(name)
                            continue
                        async with models.use(name):
                            assert name in shelf.loaded
                            await asyncio.sleep(chance.random() / 1000)
                            assert name in shelf.loaded, "it left while it was used"
                except (TimeoutError, ModelUnloadedError):
                    models.allow(name)
                except ModelLoadError:
                    assert name == "m3"
                    failures += 1
            return failures

        failures = sum(await asyncio.gather(*(visit() for _ in range(12))))
        await settle()
        assert failures > 0
        assert 1 <= shelf.most_loaded <= limit
        assert shelf.most_inside <= limit + EXTRA_UNLOADING
        assert shelf.most_loading <= PARALLEL_LOADS
        assert len(shelf.inside) <= limit
        assert shelf.inside == shelf.loaded
        for number in range(20):
            models.allow(f"m{number}")
        await call(models, *(f"m{number}" for number in range(20) if number != 3))

    storm()

"""Which models are in memory: loaded when they are called; the least recently used is unloaded to make room.

This is bookkeeping alone: how a model is loaded and unloaded is handed in, so that nothing here knows of Triton.
Everything runs in one asyncio loop.
"""

import asyncio
import collections
import contextlib
import enum
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Protocol

from semia.serving.errors import ModelLoadError, ModelUnloadedError, NoRoomError

logger = logging.getLogger(__name__)

EXTRA_UNLOADING = 1
"""Models that may still be unloading beside those that are allowed in memory.

The Python backend takes more than a second to end a model's process, a second of it asleep. A model that waited
for that would be loaded several times later; so there may be one process more than models allowed, for a moment.
"""

PARALLEL_LOADS = 2  # models that are loaded at the same time: more would only share the same cores

ROOM_TIMEOUT_S = 30.0
"""How long a model waits for room: every loaded model may have calls in flight, or others may come first."""

RETRY_AFTER_S = 10.0  # how long a model that could not be loaded is not tried again


class ModelControl(Protocol):
    """Loads and unloads models."""

    async def load(self, name: str) -> None:
        """Load a model and return when it answers; a ModelLoadError if it cannot be loaded, and is not in memory."""

    async def unload(self, name: str) -> None:
        """Unload a model; return when its memory is free."""


class _State(enum.Enum):
    QUEUED = enum.auto()  # waits for room
    LOADING = enum.auto()
    READY = enum.auto()
    DRAINING = enum.auto()  # takes no more calls, and is unloaded when its last ones are over
    UNLOADING = enum.auto()  # is being unloaded


_EVICTED = (_State.DRAINING, _State.UNLOADING)


@dataclass(eq=False)
class _Model:
    """A model that is in memory, or being loaded or unloaded."""

    name: str
    state: _State = _State.QUEUED
    users: int = 0  # calls that need it, those that wait for it included
    has_room: asyncio.Event = field(default_factory=asyncio.Event)  # there is room for it
    drained: asyncio.Event = field(default_factory=asyncio.Event)  # its last calls are over
    unloaded: asyncio.Event = field(default_factory=asyncio.Event)
    loading: asyncio.Task[None] = field(init=False)  # ends when it is loaded, or says why it is not


class ModelCache:
    """At most so many loaded models, each loaded once however many callers wait for it.

    A model with calls in flight stays. Where all have some, others wait in the order of their calls.
    """

    def __init__(
        self,
        limit: int,
        control: ModelControl,
        *,
        room_timeout_s: float = ROOM_TIMEOUT_S,
        retry_after_s: float = RETRY_AFTER_S,
    ) -> None:
        """Begin with nothing in memory; ``limit`` models may be loaded, or being loaded, at once."""
        self._limit = limit
        self._control = control
        self._room_timeout_s = room_timeout_s
        self._retry_after_s = retry_after_s
        self._models: dict[str, _Model] = {}  # least recently used first
        self._failures: dict[str, tuple[float, ModelLoadError]] = {}  # when it may be tried again, and why not before
        self._unloaded: set[str] = set()
        self._queue: collections.deque[_Model] = collections.deque()  # wait for room, first come first
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[None]:
        """Have a model in memory, loaded if need be, for as long as the ``async with`` block runs.

        Raises:
            ModelLoadError: if it cannot be loaded, or could not a moment ago.
            ModelUnloadedError: if it has been unloaded and not been admitted since.
            NoRoomError: if there was no room for it for too long.
        """
        model = await self._find(name)
        model.users += 1
        self._models[name] = self._models.pop(name)  # the most recently used
        try:
            await asyncio.shield(model.loading)  # others wait for it, too
            yield
        finally:
            self._release(model)

    async def unload(self, name: str) -> None:
        """Unload a model as soon as the calls that use it are over; return when it is unloaded."""
        self._unloaded.add(name)
        while (model := self._models.get(name)) is not None:
            if model.state is _State.READY:
                self._evict(model)
            if model.state in _EVICTED:
                await model.unloaded.wait()
            else:
                await asyncio.wait([model.loading])

    def is_loaded(self, name: str) -> bool:
        """Whether a call of this model would be answered without loading it."""
        model = self._models.get(name)
        return model is not None and model.state is _State.READY

    def recent_failure(self, name: str) -> ModelLoadError | None:
        """Why a model could not be loaded a moment ago, so that it is not tried now."""
        retry_at, failure = self._failures.get(name, (0.0, None))
        if time.monotonic() < retry_at:
            return failure
        self._failures.pop(name, None)
        return None

    def is_unloaded(self, name: str) -> bool:
        """Whether a model was unloaded and has not been admitted since."""
        return name in self._unloaded

    def allow(self, name: str) -> None:
        """Let a model be loaded by the next call, whether it was unloaded or could not be loaded before."""
        self._unloaded.discard(name)
        self._failures.pop(name, None)

    async def close(self) -> None:
        """Stop all that goes on; models stay where they are."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, name: str) -> _Model:
        """The model if it is in memory or will be; else it is queued."""
        while (model := self._models.get(name)) is not None:
            if model.state not in _EVICTED:
                return model
            await self._wait(model.unloaded, f"model {name!r} is being unloaded")
        if name in self._unloaded:
            raise ModelUnloadedError(f"model {name!r} was unloaded, and is not served until it is loaded")
        if (failure := self.recent_failure(name)) is not None:
            raise failure
        model = self._models[name] = _Model(name)
        self._queue.append(model)
        model.loading = self._run(self._load(model))
        self._dispatch()
        return model

    async def _load(self, model: _Model) -> None:
        try:
            await self._wait(model.has_room, f"no room among the {self._limit} models that may be in memory")
            began = time.monotonic()
            await self._control.load(model.name)
        except BaseException as error:
            if isinstance(error, ModelLoadError):
                self._failures[model.name] = time.monotonic() + self._retry_after_s, error
                logger.warning("could not load %s: %s", model.name, error)
            self._remove(model)
            raise
        model.state = _State.READY
        logger.info("loaded %s in %.2f s", model.name, time.monotonic() - began)
        self._dispatch()  # its callers may have given up

    def _release(self, model: _Model) -> None:
        model.users -= 1
        if model.users:
            return
        if model.state is _State.QUEUED:
            model.loading.cancel()  # all who waited for it have given up
            self._remove(model)
        elif model.state is _State.DRAINING:
            model.drained.set()
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        """Load queued models as far as there is room, and evict idle models for the others."""
        # Only as many as can be loaded now: a model evicted too early may be called again meanwhile.
        loadable = min(len(self._queue), PARALLEL_LOADS - len(self._in_state(_State.LOADING)))
        staying = self._in_state(_State.LOADING, _State.READY)
        idle = [model for model in staying if model.state is _State.READY and not model.users]
        for model in idle[: max(0, loadable - (self._limit - len(staying)))]:
            self._evict(model)
        loaded = len(self._in_state(_State.LOADING, _State.READY, _State.DRAINING))
        inside = loaded + len(self._in_state(_State.UNLOADING))
        room = min(self._limit - loaded, self._limit + EXTRA_UNLOADING - inside)
        for _ in range(min(loadable, room)):
            model = self._queue.popleft()
            model.state = _State.LOADING
            model.has_room.set()

    def _in_state(self, *states: _State) -> list[_Model]:
        return [model for model in self._models.values() if model.state in states]

    def _evict(self, model: _Model) -> None:
        model.state = _State.DRAINING
        if not model.users:
            model.drained.set()
        self._run(self._unload(model))

    async def _unload(self, model: _Model) -> None:
        await model.drained.wait()
        model.state = _State.UNLOADING
        self._dispatch()
        began = time.monotonic()
        await self._control.unload(model.name)
        logger.info("unloaded %s in %.2f s", model.name, time.monotonic() - began)
        self._remove(model)

    def _remove(self, model: _Model) -> None:
        if self._models.get(model.name) is model:
            del self._models[model.name]
        if model.state is _State.QUEUED:
            with contextlib.suppress(ValueError):
                self._queue.remove(model)
        model.unloaded.set()
        self._dispatch()

    async def _wait(self, event: asyncio.Event, reason: str) -> None:
        try:
            async with asyncio.timeout(self._room_timeout_s):
                await event.wait()
        except TimeoutError:
            raise NoRoomError(f"{reason}, for {self._room_timeout_s:g} s now: call again later") from None

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its callers were told; they may all have gone

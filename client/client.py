"""The clients, sync and async: label maps in, pictures out; one target or many."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from typing import Self

from PIL import Image

from semia.client.connection import BaseClient
from semia.client.errors import ClientError, ClientSettingsError
from semia.client.protocol import Answer, ModelDescription, ServerOperations
from semia.client.transport import run_blocking
from semia.core.labels import ClassIds, Target

OnProgress = Callable[[int], None]
"""Told how many targets are done, each time one is, in whichever order the server finishes them."""

READ_AHEAD = 2
"""So many times the calls in flight may be begun before the first of them is taken: one slow picture does not stop
the others, and no more than these are in memory."""

DEFAULT_CONCURRENCY = 4


@dataclass(frozen=True)
class Outcome:
    """What came of one target: a picture or an error, never both."""

    index: int  # of the target, from 0
    target: Target
    picture: Image.Image | None
    error: ClientError | None
    class_ids: ClassIds | None = None  # uint8[H, W]: how the target was understood
    version: str = ""  # of the model that made the picture
    model_card_sha256: str = ""  # which export that is
    duration_s: float = 0.0  # from reading the target to the picture, repetitions included

    def unwrap(self) -> Image.Image:
        """The picture.

        Raises:
            ClientError: what went wrong, where there is no picture.
        """
        if self.error is not None:
            raise self.error
        assert self.picture is not None, "a picture or an error"
        return self.picture


class Progress:
    """Counts what is done of many targets, and tells; threads may share it."""

    def __init__(self, concurrency: int, on_progress: OnProgress | None) -> None:
        if not 1 <= concurrency <= 1000:
            raise ClientSettingsError(f"concurrency must be 1 to 1000 calls in flight, not {concurrency}")
        self._on_progress = on_progress
        self._done = 0
        self._lock = Lock()

    async def outcome(self, index: int, target: Target, synthesis: Awaitable[Answer]) -> Outcome:
        """What comes of one target."""
        began = time.monotonic()
        try:
            answer = await synthesis
        except ClientError as error:
            outcome = Outcome(index, target, None, error)
        else:
            picture, card = Image.fromarray(answer.picture), answer.model.model_card_sha256
            outcome = Outcome(index, target, picture, None, answer.ids, answer.version, card)
        outcome = replace(outcome, duration_s=time.monotonic() - began)
        with self._lock:
            self._done += 1
            if self._on_progress is not None:
                self._on_progress(self._done)
        return outcome


class SynthesisClient(BaseClient):
    """A client of one server; threads may share it. `AsyncSynthesisClient` is the same for asyncio.

    Example::

        with semia.SynthesisClient("127.0.0.1:8001", timeout_s=5) as client:
            client.synthesize("pagoda", "layout.png").save("picture.png")

    The connection is made by the first call, not by the constructor. Without ``tls`` it is not encrypted. Processes may
    share it, too: each makes a connection of its own, whether it was forked or got the client pickled.

    A model's description is remembered, so that a synthesis costs one request. When the model is
    published anew meanwhile, the first call to notice asks for the new description and starts over; no
    picture is returned that was made from a label map read with another version's palette. (Class ids are
    sent as they are: what they mean is the caller's affair.)
    """

    _awaits = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the calls in flight and close the connection; the client cannot be used afterwards."""
        run_blocking(self._close())

    def models(self) -> list[str]:
        """The names of the models that are ready, sorted.

        Raises:
            ServerUnavailableError: if no server answers at the address.
            TlsError: if one does, and TLS or its absence is in the way.
            DeadlineExceededError: if it takes longer than ``timeout_s``.
            AccessRefusedError: if the server tells this to its operators alone, and ``admin_key`` is not theirs.
            ServerRefusedError: if the server answers with another error.
        """
        return run_blocking(self._run(ServerOperations.models))

    def describe(self, model: str) -> ModelDescription:
        """What the server says about a model, now: its versions, canvas and classes.

        Raises:
            UnknownModelError: if it is not among `models`; the message lists those.
            NotASemiaModelError: if it is no published generator.
            ServerUnavailableError, TlsError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return run_blocking(self._run(ServerOperations.describe, model))

    def class_ids(self, model: str, target: Target) -> ClassIds:
        """The class ids ``uint8[H, W]`` that `synthesize` sends for a target: how its colors were understood.

        Raises:
            TargetTypeError: if the target is none of the forms of `semia.client.Target`, or an id has no class.
            UnreadableTargetError: if its picture cannot be read.
            TargetSizeError: if it does not fit the model's canvas.
            UnknownColorError: if an area has a color far from every class.
            UnknownModelError, NotASemiaModelError: as `describe`.
            ServerUnavailableError, TlsError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return run_blocking(self._run(ServerOperations.class_ids, model, target))

    def synthesize(self, model: str, target: Target, *, version: str = "") -> Image.Image:
        """The model's picture of a target, at the size of its canvas.

        An empty ``version`` means the latest. The target is read with the model's current palette,
        whichever version is asked for.

        Raises:
            UnknownModelError: if the model or the version is not ready; the message lists those that are.
            Everything else as `class_ids`.
        """
        answer = run_blocking(self._run(ServerOperations.synthesize, model, target, version))
        return Image.fromarray(answer.picture)

    def synthesize_many(
        self,
        model: str,
        targets: Iterable[Target],
        *,
        version: str = "",
        concurrency: int = DEFAULT_CONCURRENCY,
        on_progress: OnProgress | None = None,
    ) -> Generator[Outcome, None, None]:
        """Pictures of many targets, several at once; the outcomes come in the order of the targets.

        Targets are taken, and pictures made, only as outcomes are asked for: a thousand are never in memory
        at once. A target that fails has an outcome with its error, and the others go on; the deadline is each
        target's own. Leaving the iterator early begins no further call and waits for those in flight.

        ``targets`` may make them as they are asked for, in this thread; ``on_progress`` is called from other threads,
        one at a time. At most ``concurrency`` calls are in flight.

        Raises:
            ClientSettingsError: at the call, if ``concurrency`` is impossible; nothing is sent then.
        """
        return self._synthesize_many(model, targets, version, concurrency, Progress(concurrency, on_progress))

    def _synthesize_many(
        self, model: str, targets: Iterable[Target], version: str, concurrency: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        def synthesize(index: int, target: Target) -> Outcome:
            answer = self._run(ServerOperations.synthesize, model, target, version)
            return run_blocking(progress.outcome(index, target, answer))

        begun: deque[Future[Outcome]] = deque()
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="semia-client")
        try:
            for index, target in enumerate(targets):
                begun.append(pool.submit(synthesize, index, target))
                if len(begun) >= READ_AHEAD * concurrency:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class AsyncSynthesisClient(BaseClient):
    """`semia.client.SynthesisClient` for asyncio: the same calls, settings and errors, awaited.

    Example::

        async with semia.AsyncSynthesisClient("127.0.0.1:8001") as client:
            picture = await client.synthesize("pagoda", "layout.png")

    Use it within one event loop at a time, wherever it was made. Pictures are read in threads, so that the loop goes
    on; a cancelled call is cancelled on the server, too.
    """

    _awaits = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the calls in flight and close the connection; the client cannot be used afterwards."""
        await self._close()

    async def models(self) -> list[str]:
        """As `semia.client.SynthesisClient.models`."""
        return await self._run(ServerOperations.models)

    async def describe(self, model: str) -> ModelDescription:
        """As `semia.client.SynthesisClient.describe`."""
        return await self._run(ServerOperations.describe, model)

    async def class_ids(self, model: str, target: Target) -> ClassIds:
        """As `semia.client.SynthesisClient.class_ids`."""
        return await self._run(ServerOperations.class_ids, model, target)

    async def synthesize(self, model: str, target: Target, *, version: str = "") -> Image.Image:
        """As `semia.client.SynthesisClient.synthesize`."""
        answer = await self._run(ServerOperations.synthesize, model, target, version)
        return Image.fromarray(answer.picture)

    async def synthesize_many(
        self,
        model: str,
        targets: Iterable[Target] | AsyncIterable[Target],
        *,
        version: str = "",
        concurrency: int = DEFAULT_CONCURRENCY,
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """As `semia.client.SynthesisClient.synthesize_many`, for ``async for``.

        The targets, too, may come from an asynchronous iterator. ``on_progress`` is called in the event loop. Leaving
        the iterator early (close it, or use ``contextlib.aclosing``) cancels the calls in flight.

        Raises:
            ClientSettingsError: with the first outcome, if ``concurrency`` is impossible; nothing is sent then.
        """
        progress, calls = Progress(concurrency, on_progress), asyncio.Semaphore(concurrency)

        async def synthesize(index: int, target: Target) -> Outcome:
            async with calls:
                answer = self._run(ServerOperations.synthesize, model, target, version)
                return await progress.outcome(index, target, answer)

        begun: deque[asyncio.Task[Outcome]] = deque()
        try:
            index = 0
            async for target in _each(targets):
                begun.append(asyncio.create_task(synthesize(index, target)))
                index += 1
                if len(begun) >= READ_AHEAD * concurrency:
                    yield await begun[0]
                    begun.popleft()
            while begun:
                yield await begun[0]
                begun.popleft()
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)


async def _each(targets: Iterable[Target] | AsyncIterable[Target]) -> AsyncIterator[Target]:
    if isinstance(targets, AsyncIterable):
        async for target in targets:
            yield target
    else:
        for target in targets:
            yield target

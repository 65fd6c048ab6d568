"""The clients, sync and async: label maps in, pictures out; one target or many."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Self, TypeVar

from PIL import Image
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncInferenceServerClient

from semia.client.connection import BaseClient
from semia.client.errors import ClientError, ClientSettingsError
from semia.client.protocol import Answer, ModelDescription, ServerOperations
from semia.client.transport import Deadline, Operation, run_operation, run_operation_async
from semia.core.labels import ClassIds, Target

OnProgress = Callable[[int], None]
"""Told how many targets are done, each time one is, in whichever order the server finishes them."""

READ_AHEAD = 2
"""So many times the calls in flight may be begun before the first of them is taken: one slow picture does not stop
the others, and no more than these are in memory."""

DEFAULT_CONCURRENCY = 4

Result = TypeVar("Result")

Begin = Callable[[ServerOperations, Deadline], Operation[Result]]
"""Starts an operation that is to be over by a deadline."""


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

    @classmethod
    def of(cls, index: int, target: Target, answer: Answer | ClientError, duration_s: float) -> "Outcome":
        """The outcome of a call."""
        if isinstance(answer, ClientError):
            return cls(index, target, None, answer, duration_s=duration_s)
        picture = Image.fromarray(answer.picture)
        card = answer.model.model_card_sha256
        return cls(index, target, picture, None, answer.ids, answer.version, card, duration_s)


class Progress:
    """Counts what is done."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._done = 0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done)


def check_concurrency(concurrency: int) -> None:
    """Make sure that it is a number of calls.

    Raises:
        ClientSettingsError: if not.
    """
    if not 1 <= concurrency <= 1000:
        raise ClientSettingsError(f"concurrency must be 1 to 1000 calls in flight, not {concurrency}")


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the calls in flight and close the connection; the client cannot be used afterwards."""
        live, self._closed = self._live, True
        if live is not None and self._is_connected:
            self._live = None
            run_operation(live.operations.close(), live.triton, Deadline(self._timeout_s))
            live.triton.close()

    def models(self) -> list[str]:
        """The names of the models that are ready, sorted.

        Raises:
            ServerUnavailableError: if no server answers at the address.
            TlsError: if one does, and TLS or its absence is in the way.
            DeadlineExceededError: if it takes longer than ``timeout_s``.
            AccessRefusedError: if the server tells this to its operators alone, and ``admin_key`` is not theirs.
            ServerRefusedError: if the server answers with another error.
        """
        return self._run(ServerOperations.models)

    def describe(self, model: str) -> ModelDescription:
        """What the server says about a model, now: its versions, canvas and classes.

        Raises:
            UnknownModelError: if it is not among `models`; the message lists those.
            NotASemiaModelError: if it is no published generator.
            ServerUnavailableError, TlsError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return self._run(lambda operations, deadline: operations.describe(model, deadline))

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
        return self._run(lambda operations, deadline: operations.class_ids(model, target, deadline))

    def synthesize(self, model: str, target: Target, *, version: str = "") -> Image.Image:
        """The model's picture of a target, at the size of its canvas.

        An empty ``version`` means the latest. The target is read with the model's current palette,
        whichever version is asked for.

        Raises:
            UnknownModelError: if the model or the version is not ready; the message lists those that are.
            Everything else as `class_ids`.
        """
        return Image.fromarray(self._synthesize(model, target, version).picture)

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

        Args:
            model: its name.
            targets: any iterable, also one that makes them as they are asked for; it is used in this thread.
            version: empty for the latest.
            concurrency: the most calls in flight.
            on_progress: called from other threads, one at a time.

        Raises:
            ClientSettingsError: at the call, if ``concurrency`` is impossible; nothing is sent then.
        """
        check_concurrency(concurrency)
        return self._synthesize_many(model, targets, version, concurrency, Progress(on_progress))

    def _synthesize_many(
        self, model: str, targets: Iterable[Target], version: str, concurrency: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        lock = Lock()

        def synthesize(index: int, target: Target) -> Outcome:
            began = time.monotonic()
            try:
                answer: Answer | ClientError = self._synthesize(model, target, version)
            except ClientError as error:
                answer = error
            outcome = Outcome.of(index, target, answer, time.monotonic() - began)
            with lock:
                progress.step()
            return outcome

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

    def _synthesize(self, model: str, target: Target, version: str) -> Answer:
        return self._run(lambda operations, deadline: operations.synthesize(model, target, version, deadline))

    def _run(self, begin: Begin[Result]) -> Result:
        live, deadline = self._connection(InferenceServerClient), Deadline(self._timeout_s)
        try:
            return run_operation(begin(live.operations, deadline), live.triton, deadline)
        except Exception as error:
            if self._closed:  # by another thread
                raise self._closed_error() from error
            raise


class AsyncSynthesisClient(BaseClient):
    """`semia.client.SynthesisClient` for asyncio: the same calls, settings and errors, awaited.

    Example::

        async with semia.AsyncSynthesisClient("127.0.0.1:8001") as client:
            picture = await client.synthesize("pagoda", "layout.png")

    Use it within one event loop at a time, wherever it was made. Pictures are read in threads, so that the loop goes
    on; a cancelled call is cancelled on the server, too.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the calls in flight and close the connection; the client cannot be used afterwards."""
        live = self._connection(AsyncInferenceServerClient, asyncio.get_running_loop()) if self._is_connected else None
        self._live, self._closed = None, True
        if live is not None:
            await run_operation_async(live.operations.close(), live.triton, Deadline(self._timeout_s))
            await live.triton.close()

    async def models(self) -> list[str]:
        """As `semia.client.SynthesisClient.models`."""
        return await self._run(ServerOperations.models)

    async def describe(self, model: str) -> ModelDescription:
        """As `semia.client.SynthesisClient.describe`."""
        return await self._run(lambda operations, deadline: operations.describe(model, deadline))

    async def class_ids(self, model: str, target: Target) -> ClassIds:
        """As `semia.client.SynthesisClient.class_ids`."""
        return await self._run(lambda operations, deadline: operations.class_ids(model, target, deadline))

    async def synthesize(self, model: str, target: Target, *, version: str = "") -> Image.Image:
        """As `semia.client.SynthesisClient.synthesize`."""
        return Image.fromarray((await self._synthesize(model, target, version)).picture)

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
        check_concurrency(concurrency)
        progress, calls = Progress(on_progress), asyncio.Semaphore(concurrency)

        async def synthesize(index: int, target: Target) -> Outcome:
            async with calls:
                began = time.monotonic()
                try:
                    answer: Answer | ClientError = await self._synthesize(model, target, version)
                except ClientError as error:
                    answer = error
                outcome = Outcome.of(index, target, answer, time.monotonic() - began)
            progress.step()
            return outcome

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

    async def _synthesize(self, model: str, target: Target, version: str) -> Answer:
        return await self._run(lambda operations, deadline: operations.synthesize(model, target, version, deadline))

    async def _run(self, begin: Begin[Result]) -> Result:
        live = self._connection(AsyncInferenceServerClient, asyncio.get_running_loop())
        deadline = Deadline(self._timeout_s)
        try:
            return await run_operation_async(begin(live.operations, deadline), live.triton, deadline)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if self._closed and not (task is not None and task.cancelling()):  # gRPC cancels calls of closed channels
                raise self._closed_error() from error
            raise


async def _each(targets: Iterable[Target] | AsyncIterable[Target]) -> AsyncIterator[Target]:
    if isinstance(targets, AsyncIterable):
        async for target in targets:
            yield target
    else:
        for target in targets:
            yield target

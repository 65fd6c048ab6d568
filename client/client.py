"""The clients, sync and async: label maps in, pictures out; and the settings both are made with."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from PIL import Image
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncInferenceServerClient

from semia.client.errors import ClientError, ClientSettingsError
from semia.client.protocol import Answer, Talk
from semia.client.results import AHEAD, OnProgress, Outcome, Progress, check_concurrency
from semia.client.shared_memory import Regions, SharedMemory, min_pixels
from semia.client.target import ModelDescription
from semia.client.transport import Conversation, Deadline, RetryOptions, carry_out, carry_out_async
from semia.core.access import ServerAccess, TlsOptions
from semia.core.errors import InputError
from semia.core.labels import ClassIds
from semia.core.messages import MAX_MESSAGE_BYTES
from semia.core.targets import Target

LARGEST_ADAPTED_BYTES = 31 << 20
"""glibc adapts to freed blocks of up to 32 MiB, what malloc adds to them included."""

DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_RETRIES = RetryOptions()
DEFAULT_CONCURRENCY = 4

FIRST_RECONNECT_BACKOFF_MS = 100
MAX_RECONNECT_BACKOFF_MS = 2_000
"""gRPC's own limits, a second and two minutes, would keep a client failing long after its server is back."""

Result = TypeVar("Result")


def keep_freed_memory() -> None:
    """Have glibc's malloc keep some freed memory, up to 62 MiB, as in every process that once freed a large array.

    It keeps twice what the largest block was that it has seen freed, and a picture takes several blocks of its size at
    once: each call would get all of them from the kernel anew, page by page. At 570x380 pixels that is 2 of the 5 ms
    which a call takes beyond the generator's own time. Elsewhere than on glibc this does nothing.
    """
    np.empty(LARGEST_ADAPTED_BYTES, np.uint8)  # none of it is touched, so it costs nothing but the address


class ClientSettings:
    """Settings of a client, checked.

    The arguments, and what is wrong with them, are documented with `semia.client.SynthesisClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        tls: TlsOptions | None,
        admin_key: str | None,
        retries: RetryOptions,
        shared_memory: SharedMemory,
    ) -> None:
        if "://" in url or ":" not in url:
            raise ClientSettingsError(f"{url!r} is not the address of a server: write HOST:PORT, like {DEFAULT_URL}")
        if not 0 < timeout_s < math.inf:
            raise ClientSettingsError(f"timeout_s must be a finite number of seconds above 0, not {timeout_s}")
        if shared_memory not in ("auto", True, False):
            raise ClientSettingsError(f"shared_memory must be 'auto', True or False, not {shared_memory!r}")
        self._url = url
        self._timeout_s = timeout_s
        self._access = ServerAccess(tls, admin_key)
        self.talk = Talk(url, self._access, retries, Regions(min_pixels(shared_memory, url)))

    def deadline(self) -> Deadline:
        """Of a call that begins now."""
        return Deadline(self._timeout_s)

    def connect(self, triton: Any) -> Any:
        """One of tritonclient's two clients, with our settings; it connects with its first call."""
        try:
            credentials = self._access.credentials
        except InputError as error:
            raise ClientSettingsError(str(error)) from error
        keep_freed_memory()
        return triton(
            self._url,
            creds=credentials,
            channel_args=[
                *self._access.channel_arguments,
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_BACKOFF_MS),
                ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
                ("grpc.enable_retries", 0),  # `semia.client.transport` does that
            ],
        )


class SynthesisClient:
    """A client of one server; threads may share it. `AsyncSynthesisClient` is the same for asyncio.

    The connection is made by the first call, not by the constructor. Without ``tls`` it is not encrypted.

    A model's description is remembered, so that a synthesis costs one request. When the model is
    published anew meanwhile, the first call to notice asks for the new description and starts over; no
    picture is returned that was made from a label map read with another version's palette. (Class ids are
    sent as they are: what they mean is the caller's affair.)
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        admin_key: str | None = None,
        retries: RetryOptions = DEFAULT_RETRIES,
        shared_memory: SharedMemory = "auto",
    ) -> None:
        """Make a client of a server.

        Args:
            url: HOST:PORT of its gRPC service.
            timeout_s: bounds each call of a method, connecting and repetitions included.
            tls: certificates; None for plain text.
            admin_key: the key of the server's operators, where it has one: `models` then needs it.
            retries: how a call is repeated that the server was not there for; nothing else is repeated.
            shared_memory: whether label maps and pictures take that way; see `semia.client.SharedMemory`.

        Raises:
            ClientSettingsError: if any of them is impossible, or a certificate cannot be read.
        """
        self._settings = ClientSettings(
            url, timeout_s=timeout_s, tls=tls, admin_key=admin_key, retries=retries, shared_memory=shared_memory
        )
        self._talk = self._settings.talk
        self._triton = self._settings.connect(InferenceServerClient)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the calls in flight and close the connection; the client cannot be used afterwards."""
        self._carry_out(lambda _: self._talk.close())
        self._triton.close()

    def models(self) -> list[str]:
        """The names of the models that are ready, sorted.

        Raises:
            ServerUnavailableError: if no server answers at the address.
            TlsError: if one does, and TLS or its absence is in the way.
            DeadlineExceededError: if it takes longer than ``timeout_s``.
            AccessRefusedError: if the server tells this to its operators alone, and ``admin_key`` is not theirs.
            ServerRefusedError: if the server answers with another error.
        """
        return self._carry_out(self._talk.models)

    def describe(self, model: str) -> ModelDescription:
        """What the server says about a model, now: its versions, canvas and classes.

        Raises:
            UnknownModelError: if it is not among `models`; the message lists those.
            NotASemiaModelError: if it is no published generator.
            ServerUnavailableError, TlsError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return self._carry_out(lambda deadline: self._talk.describe(model, deadline))

    def class_ids(self, model: str, target: Target) -> ClassIds:
        """The class ids ``uint8[H, W]`` that `synthesize` sends for a target: how its colours were understood.

        Raises:
            TargetTypeError: if the target is none of the forms of `semia.client.Target`, or an id has no class.
            UnreadableTargetError: if its picture cannot be read.
            TargetSizeError: if it does not fit the model's canvas.
            UnknownColourError: if an area has a colour far from every class.
            UnknownModelError, NotASemiaModelError: as `describe`.
            ServerUnavailableError, TlsError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return self._carry_out(lambda deadline: self._talk.class_ids(model, target, deadline))

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
                if len(begun) >= AHEAD * concurrency:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _synthesize(self, model: str, target: Target, version: str) -> Answer:
        return self._carry_out(lambda deadline: self._talk.synthesize(model, target, version, deadline))

    def _carry_out(self, begin: Callable[[Deadline], Conversation[Result]]) -> Result:
        deadline = self._settings.deadline()
        return carry_out(begin(deadline), self._triton, deadline)


class AsyncSynthesisClient:
    """`semia.client.SynthesisClient` for asyncio: the same calls, settings and errors, awaited.

    Make it and use it within one event loop. Pictures are read in threads, so that the loop goes on; a
    cancelled call is cancelled on the server, too.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsOptions | None = None,
        admin_key: str | None = None,
        retries: RetryOptions = DEFAULT_RETRIES,
        shared_memory: SharedMemory = "auto",
    ) -> None:
        """As `semia.client.SynthesisClient`."""
        self._settings = ClientSettings(
            url, timeout_s=timeout_s, tls=tls, admin_key=admin_key, retries=retries, shared_memory=shared_memory
        )
        self._talk = self._settings.talk
        self._triton = self._settings.connect(AsyncInferenceServerClient)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the calls in flight and close the connection; the client cannot be used afterwards."""
        await self._carry_out(lambda _: self._talk.close())
        await self._triton.close()

    async def models(self) -> list[str]:
        """As `semia.client.SynthesisClient.models`."""
        return await self._carry_out(self._talk.models)

    async def describe(self, model: str) -> ModelDescription:
        """As `semia.client.SynthesisClient.describe`."""
        return await self._carry_out(lambda deadline: self._talk.describe(model, deadline))

    async def class_ids(self, model: str, target: Target) -> ClassIds:
        """As `semia.client.SynthesisClient.class_ids`."""
        return await self._carry_out(lambda deadline: self._talk.class_ids(model, target, deadline))

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
                if len(begun) >= AHEAD * concurrency:
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
        return await self._carry_out(lambda deadline: self._talk.synthesize(model, target, version, deadline))

    async def _carry_out(self, begin: Callable[[Deadline], Conversation[Result]]) -> Result:
        deadline = self._settings.deadline()
        return await carry_out_async(begin(deadline), self._triton, deadline)


async def _each(targets: Iterable[Target] | AsyncIterable[Target]) -> AsyncIterator[Target]:
    if isinstance(targets, AsyncIterable):
        async for target in targets:
            yield target
    else:
        for target in targets:
            yield target

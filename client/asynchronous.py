"""The client for asyncio."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

from PIL import Image
from tritonclient.grpc.aio import InferenceServerClient

from client.conversation import Answer
from client.deadline import Deadline
from client.description import ModelDescription
from client.errors import ClientError
from client.many import AHEAD, OnProgress, Outcome, Progress, check_concurrency
from client.retries import RetryOptions
from client.settings import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    ClientSettings,
)
from client.shared_memory import SharedMemory
from client.steps import Conversation, carry_out_async
from client.target import Target
from semia.access import TlsOptions
from semia.labels import ClassIds

Result = TypeVar("Result")


class AsyncSynthesisClient:
    """`client.SynthesisClient` for asyncio: the same calls, settings and errors, awaited.

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
        """As `client.SynthesisClient`."""
        self._settings = ClientSettings(
            url, timeout_s=timeout_s, tls=tls, admin_key=admin_key, retries=retries, shared_memory=shared_memory
        )
        self._talk = self._settings.talk
        self._triton = self._settings.connect(InferenceServerClient)

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
        """As `client.SynthesisClient.models`."""
        return await self._carry_out(self._talk.models)

    async def describe(self, model: str) -> ModelDescription:
        """As `client.SynthesisClient.describe`."""
        return await self._carry_out(lambda deadline: self._talk.describe(model, deadline))

    async def class_ids(self, model: str, target: Target) -> ClassIds:
        """As `client.SynthesisClient.class_ids`."""
        return await self._carry_out(lambda deadline: self._talk.class_ids(model, target, deadline))

    async def synthesize(self, model: str, target: Target, *, version: str = "") -> Image.Image:
        """As `client.SynthesisClient.synthesize`."""
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
        """As `client.SynthesisClient.synthesize_many`, for ``async for``.

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

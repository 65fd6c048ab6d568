"""The client: label maps in, pictures out."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar

from PIL import Image
from tritonclient.grpc import InferenceServerClient

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
from client.steps import Conversation, carry_out
from client.target import Target
from semia.access import TlsOptions
from semia.labels import ClassIds

Result = TypeVar("Result")


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
            shared_memory: whether label maps and pictures take that way; see `client.SharedMemory`.

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
            TargetTypeError: if the target is none of the forms of `client.Target`, or an id has no class.
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

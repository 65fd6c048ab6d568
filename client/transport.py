"""Sending calls to a server: deadlines, retries, waiting (blocking or awaiting), and gRPC's errors as the client's.

An *operation* is a coroutine that holds the logic of a call and waits by its `ClientCall` alone, so that one
implementation serves the client that blocks and the one that awaits. Where the call blocks, it never suspends, and
`run_blocking` returns its result.

Calls are tried again for UNAVAILABLE alone.

By gRPC's definition this is the status of what a later attempt may mend: a server that starts or stops, a full
queue, a model that is being replaced. Nothing else is repeated, but for the NOT_FOUND of a server that says that it
is not live: Triton, while it stops, has unloaded its models already; the INTERNAL of a model whose process was killed,
which `semia serve` replaces; and that of a batch which another caller spoiled.

A server that is overloaded must not be buried in repetitions: every attempt waits longer than the one before, by
an amount that differs from call to call, and where about half of a client's calls fail, none is repeated any
more until others succeed. Triton's refusal because of a full queue is UNAVAILABLE, too, so it is repeated within
these bounds.

gRPC's own retries would not do: they end where an answer has begun, and so does Triton's answer to an inference while
it starts or stops.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from tritonclient.utils import InferenceServerException

from semia.client.errors import (
    AccessRefusedError,
    ClientError,
    ClientSettingsError,
    DeadlineExceededError,
    ServerRefusedError,
    ServerUnavailableError,
    TlsError,
)
from semia.core.access import ServerAccess, is_restricted

Result = TypeVar("Result")

MAX_TOKENS = 100.0
SUCCESS_TOKENS = 0.5
"""A failed attempt takes a token, a success gives half of one back; with half of them left, nothing is repeated."""

JITTER = 0.2  # waits differ by as much of their length, so that clients do not come back all at once
NO_CONNECTION = "failed to connect"  # how gRPC begins to say that it could not even ask

DEAD_PROCESS = "is not healthy"
"""How Triton's Python backend ends its answer, INTERNAL, where a model's process was killed and another is to come."""

SPOILED_BATCH = re.compile(r"batch size \d+ for '.*', max allowed is \d+")
"""Triton's answer, INTERNAL, to all requests that share a batch with another caller's that claims to hold no label map,
yet has the bytes of one: it takes their height for the batch."""

Rpc = Callable[[Any, float], Any]
"""From a client of tritonclient, whose two have the same methods, and the seconds left to an answer, or to an awaitable
of it."""

Operation = Coroutine[Any, Any, Result]


class ClientCall:
    """One call of a client's method: when it is over, however many requests it makes, and how it waits.

    Either it blocks its thread, or it leaves asyncio's event loop to others.
    """

    def __init__(self, triton: Any, timeout_s: float, *, awaits: bool) -> None:
        self.timeout_s = timeout_s
        self._triton = triton
        self._awaits = awaits
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left; 0 once the moment has passed."""
        return max(0.0, self._end - time.monotonic())

    async def ask(self, rpc: Rpc) -> Any:
        """The server's answer."""
        answer = rpc(self._triton, self.remaining_s())
        return await answer if self._awaits else answer

    async def work(self, do: Callable[[], Result]) -> Result:
        """What comes of work that keeps the processor or the disk busy: in a thread where others must not wait."""
        return await asyncio.to_thread(do) if self._awaits else do()

    async def sleep(self, duration_s: float) -> None:
        """Wait."""
        if self._awaits:
            await asyncio.sleep(duration_s)
        else:
            time.sleep(duration_s)


def run_blocking(operation: Operation[Result]) -> Result:
    """The result of an operation whose call blocks, or its error."""
    try:
        operation.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    raise AssertionError("an operation whose call blocks never suspends")


@dataclass(frozen=True)
class RetryOptions:
    """How a call is repeated whose status is UNAVAILABLE. The call's deadline bounds all attempts together."""

    attempts: int = 6  # the first one counts; 1: never repeat
    first_wait_s: float = 0.1  # before the second attempt
    longest_wait_s: float = 1.5  # by default all waits come to 4.3 s; an idle machine restarts Triton in less
    factor: float = 3.0  # by which waits grow

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise ClientSettingsError(f"attempts must be 1 to 100, not {self.attempts}")
        if not (0 < self.first_wait_s <= self.longest_wait_s < 3600 and 1 <= self.factor < 100):
            raise ClientSettingsError(f"waits must be above 0 and must not shrink: {self}")

    def waits_s(self) -> Iterator[float]:
        """How long to wait before every further attempt."""
        wait_s = self.first_wait_s
        for _ in range(self.attempts - 1):
            yield wait_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            wait_s = min(self.factor * wait_s, self.longest_wait_s)


class Throttle:
    """Knows how a client's calls have fared lately. Threads may share it; a lost count does no harm."""

    def __init__(self) -> None:
        self._tokens = MAX_TOKENS

    def succeeded(self) -> None:
        """Count a success."""
        self._tokens = min(MAX_TOKENS, self._tokens + SUCCESS_TOKENS)

    def failed(self) -> bool:
        """Count a failed attempt; whether it may be repeated."""
        self._tokens = max(0.0, self._tokens - 1)
        return self._tokens > MAX_TOKENS / 2


class Caller:
    """Requests to one server, repeated and translated."""

    def __init__(self, url: str, access: ServerAccess, retries: RetryOptions) -> None:
        self._url = url
        self._retries = retries
        self._throttle = Throttle()
        self.access = access

    async def request(self, call: ClientCall, rpc: Rpc) -> Any:
        """Ask the server; its errors become ours."""
        try:
            return await self.attempt(call, rpc)
        except InferenceServerException as error:
            raise await self.client_error(call, error) from error

    async def attempt(self, call: ClientCall, rpc: Rpc) -> Any:
        """Ask the server, again if need be; tritonclient's error is the last attempt's."""
        waits_s = self._retries.waits_s()
        while True:
            try:
                answer = await call.ask(rpc)
            except InferenceServerException as error:
                wait_s = next(waits_s, None)
                passing = await self._may_pass(call, error)
                if not passing or not self._throttle.failed() or wait_s is None or wait_s >= call.remaining_s():
                    raise
                if NO_CONNECTION in status_message(error) and await self._tls_failure(call):
                    raise  # a certificate will not be another one in a second
            else:
                self._throttle.succeeded()
                return answer
            await call.sleep(wait_s)

    async def client_error(self, call: ClientCall, error: InferenceServerException) -> ClientError:
        """What a failed request means."""
        code, message = status_code(error), status_message(error)
        if code == "DEADLINE_EXCEEDED":
            return DeadlineExceededError(f"the server at {self._url} did not answer within {call.timeout_s:g} s")
        if refusal := self.access.refusal(self._url, message):
            return AccessRefusedError(refusal)
        # A live server, too, says UNAVAILABLE: of a full queue, or a model that is not loaded.
        if code == "UNAVAILABLE" and not await self._is_live(call):
            if failure := await self._tls_failure(call):
                return TlsError(failure)
            return ServerUnavailableError(
                f"no server answers at {self._url} ({message}): start one with `semia serve`, or give its address"
            )
        return ServerRefusedError(f"the server at {self._url} refused: {message} (StatusCode.{code})")

    async def _may_pass(self, call: ClientCall, error: InferenceServerException) -> bool:
        """Whether the server may answer otherwise in a while."""
        if status_code(error) == "NOT_FOUND":
            # A server that stops has forgotten its models by the time it says that it is no longer live.
            return not await self._is_live(call)
        if DEAD_PROCESS in status_message(error) or SPOILED_BATCH.fullmatch(status_message(error)):
            return True
        return status_code(error) == "UNAVAILABLE" and not is_restricted(status_message(error))

    async def _tls_failure(self, call: ClientCall) -> str | None:
        return await call.work(lambda: self.access.tls_failure(self._url))

    async def _is_live(self, call: ClientCall) -> bool:
        try:
            return bool(await call.ask(lambda triton, left_s: triton.is_server_live(client_timeout=left_s)))
        except InferenceServerException:
            return False


def status_code(error: InferenceServerException) -> str:
    """The name of a gRPC status; empty where tritonclient itself complains."""
    return str(error.status() or "").removeprefix("StatusCode.")


def status_message(error: InferenceServerException) -> str:
    """What the server, or gRPC, says about it."""
    return error.message() or ""

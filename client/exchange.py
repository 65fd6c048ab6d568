"""Asking a server, and turning its errors into the client's."""

from collections.abc import Callable
from typing import Any

from tritonclient.utils import InferenceServerException

from client.deadline import Deadline
from client.errors import (
    AccessRefusedError,
    ClientError,
    DeadlineExceededError,
    ServerRefusedError,
    ServerUnavailableError,
    TlsError,
)
from client.retries import RetryOptions, Throttle
from client.steps import Ask, Conversation, Pause, Work
from semia.access import RESTRICTED, ServerAccess, tls_problem

TLS_PROBLEM_TIMEOUT_S = 2.0
"""For finding out why TLS keeps us from a server."""

NO_CONNECTION = "failed to connect"
"""How gRPC begins to say that it could not even ask."""

DEAD_PROCESS = "is not healthy"
"""How Triton's Python backend ends its answer, INTERNAL, where a model's process was killed and another is to come."""

Call = Callable[[Any, float], Any]
"""From a client of tritonclient and the seconds left to an answer, or to an awaitable of it."""


class Exchange:
    """Questions to one server."""

    def __init__(self, url: str, access: ServerAccess, retries: RetryOptions) -> None:
        self._url = url
        self._retries = retries
        self._throttle = Throttle()
        self.access = access

    def ask(self, call: Call, deadline: Deadline) -> Conversation[Any]:
        """Ask the server; its errors become ours."""
        try:
            return (yield from self.attempt(call, deadline))
        except InferenceServerException as error:
            raise (yield from self.client_error(error, deadline)) from error

    def attempt(self, call: Call, deadline: Deadline) -> Conversation[Any]:
        """Ask the server, again if need be; tritonclient's error is the last attempt's."""
        waits_s = self._retries.waits_s()
        while True:
            try:
                answer = yield Ask(call)
            except InferenceServerException as error:
                wait_s = next(waits_s, None)
                passing = yield from self._may_pass(error)
                if not passing or not self._throttle.failed() or wait_s is None or wait_s >= deadline.remaining_s():
                    raise
                if NO_CONNECTION in status_message(error) and (yield from self._tls_problem()):
                    raise  # a certificate will not be another one in a second
            else:
                self._throttle.succeeded()
                return answer
            yield Pause(wait_s)

    def client_error(self, error: InferenceServerException, deadline: Deadline) -> Conversation[ClientError]:
        """What a failed question means."""
        code, message = status_code(error), status_message(error)
        if code == "DEADLINE_EXCEEDED":
            return DeadlineExceededError(f"the server at {self._url} did not answer within {deadline.timeout_s:g} s")
        if RESTRICTED in message:
            return AccessRefusedError(
                f"the server at {self._url} keeps this to its operators: it wants {self.access.wanted_key}"
            )
        # A live server, too, says UNAVAILABLE: of a full queue, or a model that is not loaded.
        if code == "UNAVAILABLE" and not (yield from self._is_live()):
            if problem := (yield from self._tls_problem()):
                return TlsError(f"cannot talk to the server at {self._url}: {problem}")
            return ServerUnavailableError(
                f"no server answers at {self._url} ({message}): start one with `semia serve`, or give its address"
            )
        return ServerRefusedError(f"the server at {self._url} refused: {message} (StatusCode.{code})")

    def _may_pass(self, error: InferenceServerException) -> Conversation[bool]:
        """Whether the server may answer otherwise in a while."""
        if status_code(error) == "NOT_FOUND":
            # A server that stops has forgotten its models by the time it says that it is no longer live.
            return not (yield from self._is_live())
        if DEAD_PROCESS in status_message(error):
            return True
        return status_code(error) == "UNAVAILABLE" and RESTRICTED not in status_message(error)

    def _tls_problem(self) -> Conversation[str | None]:
        problem: str | None = yield Work(lambda: tls_problem(self._url, self.access.tls, TLS_PROBLEM_TIMEOUT_S))
        return problem

    def _is_live(self) -> Conversation[bool]:
        try:
            live: bool = yield Ask(lambda triton, left_s: triton.is_server_live(client_timeout=left_s))
        except InferenceServerException:
            return False
        return live


def status_code(error: InferenceServerException) -> str:
    """The name of a gRPC status; empty where tritonclient itself complains."""
    return str(error.status() or "").removeprefix("StatusCode.")


def status_message(error: InferenceServerException) -> str:
    """What the server, or gRPC, says about it."""
    return error.message() or ""

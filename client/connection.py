"""A client's settings, and what it holds in each process and event loop that uses it."""

import asyncio
import math
import os
from collections.abc import Callable
from threading import Lock
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncInferenceServerClient

from semia.client.errors import ClientSettingsError, ClientUseError
from semia.client.protocol import ServerOperations
from semia.client.shared_memory import RegionPool, SharedMemory, min_pixels
from semia.client.transport import ClientCall, Operation, RetryOptions
from semia.core import DEFAULT_URL
from semia.core.access import MAX_MESSAGE_BYTES, ServerAccess, TlsOptions, check_address
from semia.core.errors import InputError

LARGEST_ADAPTED_BYTES = 31 << 20  # glibc adapts to freed blocks of up to 32 MiB, what malloc adds to them included

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_RETRIES = RetryOptions()

FIRST_RECONNECT_BACKOFF_MS = 100
MAX_RECONNECT_BACKOFF_MS = 2_000
"""gRPC's own limits, a second and two minutes, would keep a client failing long after its server is back."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LiveConnection(NamedTuple):
    """What a client uses in one process, and of an asyncio client in one event loop."""

    process: int  # its id
    loop: asyncio.AbstractEventLoop | None  # None of a client that blocks
    operations: ServerOperations
    triton: Any  # one of tritonclient's two clients


_making = Lock()
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)

_inherited: list[LiveConnection] = []
"""Of the processes that this one was forked from, never to be closed: that would end the parent's connection."""


def keep_freed_memory() -> None:
    """Have glibc's malloc keep some freed memory, up to 62 MiB, as in every process that once freed a large array.

    It keeps twice what the largest block was that it has seen freed, and a picture takes several blocks of its size at
    once: each call would get all of them from the kernel anew, page by page. At 570x380 pixels that is 2 of the 5 ms
    which a call takes beyond the generator's own time. Elsewhere than on glibc this does nothing.
    """
    np.empty(LARGEST_ADAPTED_BYTES, np.uint8)  # none of it is touched, so it costs nothing but the address


class BaseClient:
    """What both clients are made of: their settings, checked, and what they hold for each process."""

    _awaits: ClassVar[bool]  # whether it is asyncio's: it then holds a connection for each event loop

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
        if not 0 < timeout_s < math.inf:
            raise ClientSettingsError(f"timeout_s must be a finite number of seconds above 0, not {timeout_s}")
        if shared_memory not in ("auto", True, False):
            raise ClientSettingsError(f"shared_memory must be 'auto', True or False, not {shared_memory!r}")
        try:
            check_address(url)
            if tls is not None:
                tls.context()
        except InputError as error:
            raise ClientSettingsError(str(error)) from error
        keep_freed_memory()
        self._url = url
        self._timeout_s = timeout_s
        self._access = ServerAccess(tls, admin_key)
        self._retries = retries
        self._shared_memory: SharedMemory = shared_memory
        self._live: LiveConnection | None = None
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: another process makes a connection of its own."""
        return vars(self) | {"_live": None, "_closed": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        keep_freed_memory()

    async def _run(
        self,
        operation: Callable[Concatenate[ServerOperations, ClientCall, Arguments], Operation[Result]],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result:
        """Carry out an operation on the server."""
        with _making:
            live = self._connection()
        call = ClientCall(live.triton, self._timeout_s, awaits=self._awaits)
        try:
            return await operation(live.operations, call, *arguments, **options)
        except (Exception, asyncio.CancelledError) as error:
            # Closed by another thread or task; gRPC cancels the calls of a closed channel.
            if self._closed and not (self._awaits and _is_cancelled()):
                raise self._closed_error() from error
            raise

    async def _close(self) -> None:
        """End the calls in flight and close the connection; a forked process leaves what it inherited alone."""
        with _making:
            connected = self._live is not None and self._live.process == os.getpid()
            live = self._connection() if connected else None
            self._closed = True
            if live is not None:
                self._live = None
        if live is not None:
            call = ClientCall(live.triton, self._timeout_s, awaits=self._awaits)
            await live.operations.close(call)
            await call.ask(lambda triton, _: triton.close())

    def _connection(self) -> LiveConnection:
        """What this process and event loop use, made where they had nothing yet; `_making` must be held.

        A forked process starts anew, for its parent goes on using the connection and the memory shared with the server.
        """
        if self._closed:
            raise self._closed_error()
        live, process, operations = self._live, os.getpid(), None
        loop = asyncio.get_running_loop() if self._awaits else None
        if live is not None and live.process != process:
            _inherited.append(live)
        elif live is not None:
            if live.loop is loop:
                return live
            if live.loop is not None and not live.loop.is_closed():
                raise ClientUseError(f"the client of {self._url} belongs to another event loop: make one in each")
            operations = live.operations
        if operations is None:
            regions = RegionPool(min_pixels(self._shared_memory, self._url))
            operations = ServerOperations(self._url, self._access, self._retries, regions)
        self._live = LiveConnection(process, loop, operations, self._connect())
        return self._live

    def _connect(self) -> Any:
        """One of tritonclient's two clients, with our settings; it connects with its first call."""
        try:
            credentials = self._access.credentials
        except InputError as error:
            raise ClientSettingsError(str(error)) from error
        return (AsyncInferenceServerClient if self._awaits else InferenceServerClient)(
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

    def _closed_error(self) -> ClientUseError:
        return ClientUseError(f"the client of {self._url} is closed: make a new one")


def _is_cancelled() -> bool:
    """Whether the running task is to end.

    A function of its own: a task among the variables of a frame that fails would be in a cycle with its own error, and
    keep the connection until the garbage collector comes. Where that comes in a forked process, gRPC waits forever.
    """
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())

"""Running the proxy in a thread with a loop of its own, beside the thread that waits for Triton to end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import grpc

from semia.core.access import MAX_MESSAGE_BYTES
from semia.serving.errors import ServerStartError
from semia.serving.proxy.forwarding import OnDemandProxy
from semia.serving.proxy.model_cache import ModelCache
from semia.serving.triton.control import Metadata, TritonChannel

MAX_CALLS = 1024
"""Calls that may wait or be answered at once; further ones are refused with RESOURCE_EXHAUSTED."""

GRACE_S = 10.0
"""How long calls in flight may delay a stopping proxy."""


class ProxyThread:
    """A proxy that listens from `start` to `stop`."""

    def __init__(
        self,
        repository: Path,
        triton_url: str,
        address: str,
        max_loaded: int,
        *,
        credentials: grpc.ServerCredentials | None = None,
        control_metadata: Metadata = (),
        on_failure: Callable[[], None],
    ) -> None:
        """Start nothing yet.

        Args:
            repository: the model repository that Triton serves.
            triton_url: gRPC address of a Triton that nothing else loads models into.
            address: HOST:PORT to listen on.
            max_loaded: how many models may be in memory.
            credentials: for TLS; None: plain text.
            control_metadata: what the proxy's own calls of Triton carry, such as the key of a restricted protocol.
            on_failure: called if the proxy ends without being told to.
        """
        self._repository = repository
        self._triton_url = triton_url
        self._address = address
        self._max_loaded = max_loaded
        self._credentials = credentials
        self._control_metadata = control_metadata
        self._on_failure = on_failure
        self.failure: BaseException | None = None  # what ended it, unless it was told to
        self._listening: Future[None] = Future()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="semia-proxy", daemon=True)

    def start(self) -> None:
        """Return when it listens.

        Raises:
            ServerStartError: if it cannot listen on its address.
        """
        self._thread.start()
        self._listening.result()

    def stop(self) -> None:
        """Let calls in flight finish, then end."""
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._listening.done():
                self._listening.set_exception(error)
                return
            self.failure = error
            self._on_failure()

    async def _serve(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        triton = TritonChannel(self._triton_url, self._control_metadata)
        cache = ModelCache(self._max_loaded, triton)
        server = grpc.aio.server(
            handlers=[OnDemandProxy(self._repository, triton, cache)],
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),  # it holds a whole request at a time
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # else two servers could share a port, and callers
            ],
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        try:
            if self._credentials is None:
                server.add_insecure_port(self._address)
            else:
                server.add_secure_port(self._address, self._credentials)
            await server.start()
        except RuntimeError as error:
            raise ServerStartError(f"cannot listen on {self._address}: {error}") from error
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        self._listening.set_result(None)
        await stopped.wait()
        await server.stop(GRACE_S)
        await cache.close()
        await triton.close()

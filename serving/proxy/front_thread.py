"""Running the front in a thread with a loop of its own, beside the thread that waits for Triton to end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import grpc

from semia.core.messages import MAX_MESSAGE_BYTES
from semia.serving.errors import ServerStartError
from semia.serving.proxy.front import Front
from semia.serving.proxy.residency import ResidentModels
from semia.serving.triton.channel import Metadata, TritonChannel

MAX_CALLS = 1024
"""Calls that may wait or be answered at once; further ones are refused with RESOURCE_EXHAUSTED."""

GRACE_S = 10.0
"""How long calls in flight may delay a stopping front."""


class FrontThread:
    """A front that listens from `start` to `stop`."""

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
            triton_url: gRPC address of a Triton that nobody else tells what to load.
            address: HOST:PORT to listen on.
            max_loaded: how many models may be in memory.
            credentials: for TLS; None: plain text.
            control_metadata: what the front's own calls of Triton carry, such as the key of a restricted protocol.
            on_failure: called if the front ends without being told to.
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
        self._thread = threading.Thread(target=self._run, name="semia-front", daemon=True)

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
        residents = ResidentModels(self._max_loaded, triton)
        server = grpc.aio.server(
            handlers=[Front(self._repository, triton, residents)],
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
        await residents.close()
        await triton.close()

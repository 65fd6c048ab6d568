"""A gRPC proxy in front of a Triton that keeps few of its models in memory: it has a model loaded when it is called.

Requests and answers pass as they are, bytes, statuses and metadata; of a request only the model's name is read.
What differs from Triton's own interface:

- a call that needs a model waits until the model is in memory (`semia.serving.proxy.model_cache`);
- every model of the repository counts as ready, for calling it is all it takes. The index tells those that are
  not in memory by `LOADED_WHEN_CALLED`; asking about readiness loads nothing, so that probes cost no memory;
- what an operator loads counts, too; what an operator unloads is not served until it is loaded by one.
"""

import asyncio
import collections
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as kserve

from semia.core.access import MAX_MESSAGE_BYTES
from semia.serving.errors import (
    ModelLoadError,
    ModelNotFoundError,
    ModelUnloadedError,
    NoRoomError,
    ServerStartError,
    ServerUnreachableError,
    ServingError,
)
from semia.serving.proxy.model_cache import ModelCache
from semia.serving.repository.layout import newest_versions
from semia.serving.triton.control import SERVICE, STREAM, Metadata, TritonChannel, forwarded_metadata

InMemory = Callable[[str], contextlib.AbstractAsyncContextManager[None]]

LOADED_WHEN_CALLED = "not in memory: loaded when called"
"""The reason that the index gives, beside READY, for a model that is not in memory."""

STATUS: dict[type[ServingError], grpc.StatusCode] = {
    ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    NoRoomError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ModelLoadError: grpc.StatusCode.FAILED_PRECONDITION,  # calling again does not help: the model has to be mended
    ModelUnloadedError: grpc.StatusCode.UNAVAILABLE,
    ServerUnreachableError: grpc.StatusCode.UNAVAILABLE,
}
"""What callers are told if a model cannot be had."""

Context = Any  # grpc.aio's ServicerContext, whose stubs know no bytes

Handler = Callable[[bytes, Context], Awaitable[bytes]]

MAX_CALLS = 1024  # calls that may wait or be answered at once; further ones are refused with RESOURCE_EXHAUSTED
GRACE_S = 10.0  # how long calls in flight may delay a stopping proxy


class StreamForwarder:
    """One stream of a caller, and the one to Triton behind it."""

    def __init__(self, triton: TritonChannel, resident: InMemory) -> None:
        """Forward nothing yet; ``resident`` keeps a model in memory as long as its block runs."""
        self._triton = triton
        self._in_memory = resident
        self._in_use: collections.deque[contextlib.AsyncExitStack] = collections.deque()  # of unanswered requests
        self._writing = asyncio.Lock()  # gRPC takes one answer at a time

    async def forward(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Handle the stream until both sides have ended it, or either has failed."""
        metadata = forwarded_metadata(context.invocation_metadata())
        call = self._triton.stream(None, timeout=context.time_remaining(), metadata=metadata)
        sender = asyncio.create_task(self._send(requests, call, context))
        try:
            async for answer in call:
                await self._write(answer, context)
                # Triton answers each request once, most often in their order; should it be another's turn, a model
                # may be sent away with calls in flight, which Triton still finishes.
                if self._in_use:
                    await self._in_use.popleft().aclose()
            await sender
            context.set_trailing_metadata(forwarded_metadata(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", forwarded_metadata(error.trailing_metadata()))
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            while self._in_use:
                await self._in_use.popleft().aclose()

    async def _send(
        self, requests: AsyncIterator[bytes], call: "grpc.aio.StreamStreamCall[bytes, bytes]", context: Any
    ) -> None:
        async for request in requests:
            name = _read("ModelInfer", "model_name", request)
            if name is None:
                await call.write(request)  # Triton says what is wrong with it
                continue
            in_use = contextlib.AsyncExitStack()
            try:
                await in_use.enter_async_context(self._in_memory(name))
            except ServingError as error:
                # As Triton does: the stream goes on after a request that fails.
                await self._write(
                    kserve.ModelStreamInferResponse(error_message=str(error)).SerializeToString(), context
                )
                continue
            self._in_use.append(in_use)
            await call.write(request)
        await call.done_writing()

    async def _write(self, answer: bytes, context: Any) -> None:
        async with self._writing:
            await context.write(answer)


class OnDemandProxy(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """Answers for every method of Triton's gRPC interface."""

    def __init__(self, repository: Path, triton: TritonChannel, cache: ModelCache) -> None:
        self._repository = repository
        self._triton = triton
        self._cache = cache
        self._handlers: dict[str, Handler] = {
            f"{SERVICE}ModelInfer": partial(self._with_model, "ModelInfer", "model_name"),
            f"{SERVICE}ModelConfig": partial(self._with_model, "ModelConfig", "name"),
            f"{SERVICE}ModelMetadata": partial(self._with_model, "ModelMetadata", "name"),
            f"{SERVICE}ModelReady": self._model_ready,
            f"{SERVICE}RepositoryIndex": self._index,
            f"{SERVICE}RepositoryModelLoad": self._load,
            f"{SERVICE}RepositoryModelUnload": self._unload,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """The handler of a method; None, which grpc answers with UNIMPLEMENTED, where there is no such method."""
        path = handler_call_details.method
        if path == SERVICE + STREAM:
            return grpc.stream_stream_rpc_method_handler(StreamForwarder(self._triton, self.in_memory).forward)
        if path not in self._triton.unary:
            return None
        return grpc.unary_unary_rpc_method_handler(self._handlers.get(path) or partial(self._forward, path))

    @contextlib.asynccontextmanager
    async def in_memory(self, name: str) -> AsyncIterator[None]:
        """Have a model in memory as long as the ``async with`` block runs.

        Raises:
            ServingError: one of `STATUS`, if it cannot be had.
        """
        if not self._cache.is_loaded(name) and name not in await self._on_disk():
            raise ModelNotFoundError(f"Request for unknown model: '{name}' is not found")  # as Triton says it
        async with self._cache.use(name):
            yield

    async def _forward(self, path: str, request: bytes, context: Context) -> bytes:
        metadata = forwarded_metadata(context.invocation_metadata())
        call = self._triton.unary[path](request, timeout=context.time_remaining(), metadata=metadata)
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", forwarded_metadata(error.trailing_metadata()))
        if initial := forwarded_metadata(await call.initial_metadata()):
            await context.send_initial_metadata(initial)
        context.set_trailing_metadata(forwarded_metadata(await call.trailing_metadata()))
        return answer

    async def _with_model(self, method: str, field: str, request: bytes, context: Context) -> bytes:
        name = _read(method, field, request)
        if name is None:
            return await self._forward(SERVICE + method, request, context)  # Triton says what is wrong with it
        try:
            async with self.in_memory(name):
                return await self._forward(SERVICE + method, request, context)
        except ServingError as error:
            await context.abort(STATUS[type(error)], str(error))
        raise AssertionError("aborting ends the call")

    async def _model_ready(self, request: bytes, context: Context) -> bytes:
        name, version = (_read("ModelReady", field, request) for field in ("name", "version"))
        if name is not None and self._is_loadable(name) and self._cache.recent_failure(name) is None:
            newest = (await self._on_disk()).get(name)
            if newest is not None and version in ("", str(newest)):
                ready: bytes = kserve.ModelReadyResponse(ready=True).SerializeToString()
                return ready
        return await self._forward(SERVICE + "ModelReady", request, context)

    async def _index(self, request: bytes, context: Context) -> bytes:
        answer = await self._forward(SERVICE + "RepositoryIndex", request, context)
        only_ready = kserve.RepositoryIndexRequest.FromString(request).ready
        waiting = {name: version for name, version in (await self._on_disk()).items() if self._is_loadable(name)}
        # Triton's word counts for what is in memory and for other versions.
        models = [
            model
            for model in kserve.RepositoryIndexResponse.FromString(answer).models
            if model.name not in waiting or model.version not in ("", str(waiting[model.name]))
        ]
        for name, version in waiting.items():
            failure = self._cache.recent_failure(name)
            if failure is not None and only_ready:
                continue
            state, reason = ("READY", LOADED_WHEN_CALLED) if failure is None else ("UNAVAILABLE", str(failure))
            entry = {"name": name, "version": str(version), "state": state, "reason": reason}
            models.append(kserve.RepositoryIndexResponse.ModelIndex(**entry))
        models.sort(key=lambda entry: (entry.name, int(entry.version or 0)))
        index: bytes = kserve.RepositoryIndexResponse(models=models).SerializeToString()
        return index

    async def _load(self, request: bytes, context: Context) -> bytes:
        """Make room for a model as for a call of it, then have Triton load what is newest."""
        name = _read("RepositoryModelLoad", "model_name", request)
        if name is not None:
            await self._check_operator(context)
            self._cache.allow(name)
        try:
            return await self._with_model("RepositoryModelLoad", "model_name", request, context)
        finally:
            if name is not None:
                self._cache.allow(name)  # a failure was told: what is there is tried anew

    async def _unload(self, request: bytes, context: Context) -> bytes:
        name = _read("RepositoryModelUnload", "model_name", request)
        if name is not None:
            await self._check_operator(context)
            if self._cache.is_loaded(name) or name in await self._on_disk():
                await self._cache.unload(name)
        return await self._forward(SERVICE + "RepositoryModelUnload", request, context)

    async def _check_operator(self, context: Context) -> None:
        """Let Triton refuse a caller who may not change its models, by a call that changes none."""
        await self._forward(SERVICE + "RepositoryIndex", b"", context)

    def _is_loadable(self, name: str) -> bool:
        return not self._cache.is_loaded(name) and not self._cache.is_unloaded(name)

    async def _on_disk(self) -> dict[str, int]:
        return await asyncio.to_thread(newest_versions, self._repository)


def _read(method: str, field: str, request: bytes) -> str | None:
    """A field of a method's serialized request; None if it is not one."""
    try:
        value: str = getattr(getattr(kserve, f"{method}Request").FromString(request), field)
    except DecodeError:
        return None
    return value


@dataclass(eq=False)
class ProxyThread:
    """A proxy that listens from `start` to `stop`."""

    repository: Path  # the model repository that Triton serves
    triton_url: str  # gRPC address of a Triton that nothing else loads models into
    address: str  # HOST:PORT to listen on
    max_loaded: int  # how many models may be in memory
    on_failure: Callable[[], None]  # called if the proxy ends without being told to
    credentials: grpc.ServerCredentials | None = None  # for TLS; None: plain text
    control_metadata: Metadata = ()  # as `TritonChannel` takes it
    failure: BaseException | None = field(default=None, init=False)  # what ended it, unless it was told to

    def __post_init__(self) -> None:
        self._listening: Future[None] = Future()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="semia-proxy", daemon=True)

    def start(self) -> None:
        """Return when it listens on its address; a ServerStartError if it cannot."""
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
            self.on_failure()

    async def _serve(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        triton = TritonChannel(self.triton_url, self.control_metadata)
        cache = ModelCache(self.max_loaded, triton)
        server = grpc.aio.server(
            handlers=[OnDemandProxy(self.repository, triton, cache)],
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),  # it holds a whole request at a time
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # else two servers could share a port, and callers
            ],
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        try:
            if self.credentials is None:
                server.add_insecure_port(self.address)
            else:
                server.add_secure_port(self.address, self.credentials)
            await server.start()
        except RuntimeError as error:
            raise ServerStartError(f"cannot listen on {self.address}: {error}") from error
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        self._listening.set_result(None)
        await stopped.wait()
        await server.stop(GRACE_S)
        await cache.close()
        await triton.close()

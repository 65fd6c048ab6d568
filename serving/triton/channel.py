"""Triton's gRPC interface in raw bytes, for the front, and in asyncio, for the front's own calls."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as kserve

from semia.serving.errors import ModelLoadError, ServerUnreachableError
from semia.serving.triton.control import CALL_TIMEOUT_S, LOAD_TIMEOUT_S, one_line

SERVICE = "/inference.GRPCInferenceService/"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
STREAM = "ModelStreamInfer"
UNARY_METHODS = tuple(
    method.name
    for method in kserve.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if method.name != STREAM
)

POLL_S = 0.02
"""Between two looks at a model that is being unloaded."""

RETRY_S = 1.0
"""After a call failed that has to succeed sooner or later, unless the server ends."""

IN_MEMORY = ("LOADING", "READY", "UNLOADING")
"""States of a model that takes memory."""

Metadata = Sequence[tuple[str, str | bytes]]


class TritonChannel:
    """A connection to one Triton; it belongs to the loop in which it is made."""

    def __init__(self, url: str, control_metadata: Metadata = ()) -> None:
        """Connect with the first call.

        Args:
            url: gRPC address of the server.
            control_metadata: what the front's own calls carry, such as the key of a restricted protocol.
        """
        self._control_metadata = tuple(control_metadata)
        self._channel = grpc.aio.insecure_channel(
            url,
            options=[
                ("grpc.max_send_message_length", -1),  # what the front let in, and what Triton made of it
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        paths = [SERVICE + name for name in UNARY_METHODS] + [HEALTH_CHECK]
        # No serialisers: bytes go in and come out.
        self._unary = {path: self._channel.unary_unary(path, None, None) for path in paths}
        self._stream: Any = self._channel.stream_stream(SERVICE + STREAM, None, None)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    def knows(self, path: str) -> bool:
        """Whether `call` can make this call."""
        return path in self._unary

    def call(
        self, path: str, request: bytes, timeout_s: float | None, metadata: Metadata
    ) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
        """Begin a call, by ``/service/method``."""
        return self._unary[path](request, timeout=timeout_s, metadata=tuple(metadata))

    def open_stream(self, timeout_s: float | None, metadata: Metadata) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        """Begin a ``ModelStreamInfer``."""
        call: grpc.aio.StreamStreamCall[bytes, bytes] = self._stream(None, timeout=timeout_s, metadata=tuple(metadata))
        return call

    async def load(self, name: str) -> None:
        """Load a model's newest version; return when it is warm.

        Raises:
            ModelLoadError: if Triton cannot load it.
            ServerUnreachableError: if there is no Triton any more.
        """
        try:
            await self._control("RepositoryModelLoad", kserve.RepositoryModelLoadRequest(model_name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise ServerUnreachableError(f"Triton does not answer: {error.details()}") from error
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                await self.unload(name)  # it may be loaded after all, any time now
                raise ModelLoadError(f"model {name!r} was not loaded within {LOAD_TIMEOUT_S:g} s") from error
            raise ModelLoadError(f"model {name!r} cannot be loaded: {one_line(error.details() or '')}") from error

    async def unload(self, name: str) -> None:
        """Unload a model; return when its memory is free, which takes the Python backend more than a second."""
        while True:
            try:
                await self._control("RepositoryModelUnload", kserve.RepositoryModelUnloadRequest(model_name=name))
                while await self._is_in_memory(name):
                    await asyncio.sleep(POLL_S)
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(RETRY_S)

    async def _is_in_memory(self, name: str) -> bool:
        answer = await self._control("RepositoryIndex", kserve.RepositoryIndexRequest(), CALL_TIMEOUT_S)
        index = kserve.RepositoryIndexResponse.FromString(answer)
        return any(model.name == name and model.state in IN_MEMORY for model in index.models)

    async def _control(self, method: str, request: Message, timeout_s: float = LOAD_TIMEOUT_S) -> bytes:
        return await self.call(SERVICE + method, request.SerializeToString(), timeout_s, self._control_metadata)


def passed_on(metadata: Iterable[Any] | None) -> Metadata:
    """Metadata that is the caller's or Triton's own, without what belongs to one connection."""
    return tuple((key, value) for key, value in metadata or () if key != "user-agent" and not key.startswith("grpc-"))

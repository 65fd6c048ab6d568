"""Calls that control a running Triton: blocking ones of any server, and asyncio ones of the server behind the proxy."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.utils import InferenceServerException

from semia.core.access import ServerAccess, check_address, is_restricted
from semia.core.labels import Canvas
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.serving.errors import (
    AccessRefusedError,
    ModelAnswerError,
    ModelLoadError,
    ModelUnloadError,
    ServerError,
    ServerUnreachableError,
)

CALL_TIMEOUT_S = 10.0  # for calls that a live server answers at once

ANONYMOUS = ServerAccess()

LOAD_TIMEOUT_S = 120.0  # for loading a model: its backend starts, reads the graph and runs it once
POLL_S = 0.02  # between two looks at a model that is being unloaded

SERVICE = "/inference.GRPCInferenceService/"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
STREAM = "ModelStreamInfer"

RETRY_S = 1.0  # after a call failed that has to succeed sooner or later, unless the server ends
IN_MEMORY = ("LOADING", "READY", "UNLOADING")  # states of a model that takes memory

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class ModelState:
    """What a server says about one model."""

    version: int | None  # the newest version that answers requests; None where none does
    problem: str | None  # why the newest version that was tried could not be loaded, or None
    failed_version: int | None = None  # the version that `problem` is about
    loading: bool = False  # whether a version is being loaded now
    newest: int = 0  # the largest version number that it has ever tried, with whatever success; 0: none


def load_model(
    url: str,
    name: str,
    *,
    config: str | None = None,
    timeout_s: float = LOAD_TIMEOUT_S,
    access: ServerAccess = ANONYMOUS,
) -> int:
    """Make a running server load the newest version of a model from its repository; return that version.

    The server answers requests with the version it had until the new one is warm, and keeps it if the new
    one fails. It must run with ``--model-control-mode explicit``. A ``config``, in JSON, takes the place of the
    repository's.

    Raises:
        ServerUnreachableError: if no server answers at ``url``, HOST:PORT, or TLS keeps us from it.
        AccessRefusedError: if the server keeps this to its operators, and ``access`` lacks the right key.
        ModelLoadError: if the server refuses or fails to load the model; the reason is the server's.
    """
    with _connection(url, access) as client, _refused_as(ModelLoadError, f"{url} cannot load model {name!r}"):
        client.load_model(name, headers=access.headers, config=config, client_timeout=timeout_s)
    version = model_states(url, access=access)[name].version
    if version is None:
        raise ModelLoadError(f"{url} loaded model {name!r} and serves no version of it: someone else unloaded it")
    return version


def unload_model(url: str, name: str, *, timeout_s: float = LOAD_TIMEOUT_S, access: ServerAccess = ANONYMOUS) -> None:
    """Make a running server let go of a model; returns when the server no longer lists it as ready.

    Requests in flight are answered; later ones are refused as UNAVAILABLE. The server frees the memory when the
    last of them is done, which may be a moment after this returns. A model that is not loaded stays so.

    Raises:
        ServerUnreachableError, AccessRefusedError: as `load_model`.
        ModelUnloadError: if the server refuses, or still serves the model after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    with _connection(url, access) as client:
        with _refused_as(ModelUnloadError, f"{url} cannot unload model {name!r}"):
            client.unload_model(name, headers=access.headers, client_timeout=timeout_s)
        while ("READY", name) in {(model.state, model.name) for model in _index(client, access)}:
            if time.monotonic() > deadline:
                raise ModelUnloadError(f"{url} still serves model {name!r} after {timeout_s:g} s")
            time.sleep(POLL_S)


def check_answer(
    url: str,
    name: str,
    version: int,
    canvas: Canvas,
    *,
    timeout_s: float = LOAD_TIMEOUT_S,
    access: ServerAccess = ANONYMOUS,
) -> None:
    """Have one version of a model draw one picture, and make sure that it is one.

    The label map sent is all class 0, which every palette has.

    Raises:
        ServerUnreachableError: if no server answers at ``url``, HOST:PORT, or TLS keeps us from it.
        ModelAnswerError: if the version refuses, or answers anything but ``uint8[1, H, W, 3]``.
    """
    tensor = InferInput(INPUT_NAME, [1, *canvas], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, *canvas), dtype=np.uint8))
    what = f"version {version} of model {name!r} was loaded by {url} and does not answer"
    with _connection(url, access) as client, _refused_as(ModelAnswerError, what):
        answer = client.infer(name, [tensor], model_version=str(version), client_timeout=timeout_s)
    picture, expected = answer.as_numpy(OUTPUT_NAME), (1, *canvas, 3)
    if picture is None or picture.dtype != np.uint8 or picture.shape != expected:
        received = "nothing" if picture is None else f"{picture.dtype}{[*picture.shape]}"
        raise ModelAnswerError(
            f"version {version} of model {name!r} at {url} answers {received}, not uint8{[*expected]} as its card says"
        )


def model_states(url: str, *, access: ServerAccess = ANONYMOUS) -> dict[str, ModelState]:
    """The models of a server's repository by name, those that failed to load included.

    Raises:
        ServerUnreachableError, AccessRefusedError: as `load_model`.
    """
    with _connection(url, access) as client:
        index = _index(client, access)
    states: dict[str, ModelState] = {}
    # One entry per model and version, for as long as the server runs; a model that it never tried to load has an
    # entry without a version and without a state.
    for model in sorted(index, key=lambda entry: int(entry.version or 0)):
        known = states.get(model.name, ModelState(None, None))
        if model.version:
            known = replace(known, newest=int(model.version))
        if model.state == "READY":
            known = replace(known, version=int(model.version), problem=None, failed_version=None)
        elif model.state == "LOADING":
            known = replace(known, loading=True)
        elif model.state == "UNAVAILABLE" and model.reason != "unloaded":  # so ends one that made room for a newer one
            problem = one_line(model.reason) or "no version of it can be loaded"
            known = replace(known, problem=problem, failed_version=int(model.version or 0))
        states[model.name] = known
    return states


def _index(client: InferenceServerClient, access: ServerAccess) -> Sequence[Any]:
    index = client.get_model_repository_index(headers=access.headers, client_timeout=CALL_TIMEOUT_S)
    models: Sequence[Any] = index.models
    return models


def one_line(reason: str) -> str:
    """Triton's reason without the traceback of the Python backend behind it."""
    return " ".join(reason.split("\n\nAt:")[0].split()).removeprefix("Internal: ")


@contextlib.contextmanager
def _refused_as(kind: type[ServerError], what: str) -> Iterator[None]:
    """Say what a live server refused, and why; that it keeps a call to its operators is said by `_connection`."""
    try:
        yield
    except InferenceServerException as error:
        if is_restricted(error.message()):
            raise
        reason = one_line(error.message())
        if reason.startswith("explicit model load"):
            reason = "it loads and unloads nothing when told to: run it with --model-control-mode=explicit"
        raise kind(f"{what}: {reason}") from error


@contextlib.contextmanager
def _connection(url: str, access: ServerAccess) -> Iterator[InferenceServerClient]:
    """A connection to a live server.

    Raises:
        ServerUnreachableError: if no server answers, then or within the ``with`` block.
        AccessRefusedError: if it does not take the admin key.
        InputError: if that is no address.
    """
    check_address(url)
    with InferenceServerClient(url, creds=access.credentials, channel_args=access.channel_arguments) as client:
        try:
            if not client.is_server_live(client_timeout=CALL_TIMEOUT_S):
                raise ServerUnreachableError(f"the Triton server at {url} is starting or stopping")
            yield client
        except InferenceServerException as error:
            if refusal := access.refusal(url, error.message() or ""):
                raise AccessRefusedError(refusal) from error
            if failure := access.tls_failure(url):
                raise ServerUnreachableError(failure) from error
            silent = error.status() in (None, "StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
            what = f"no Triton server answers at {url}" if silent else f"the Triton server at {url} fails"
            raise ServerUnreachableError(f"{what}: {one_line(error.message())}") from error


UNARY_METHODS = tuple(
    method.name
    for method in kserve.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if method.name != STREAM
)


class TritonChannel:
    """A connection to one Triton; it belongs to the loop in which it is made."""

    def __init__(self, url: str, control_metadata: Metadata = ()) -> None:
        """Connect with the first call.

        The proxy's own calls carry ``control_metadata``, such as the key of a restricted protocol.
        """
        self._control_metadata = tuple(control_metadata)
        self._channel = grpc.aio.insecure_channel(
            url,
            options=[
                ("grpc.max_send_message_length", -1),  # what the proxy let in, and what Triton made of it
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        paths = [SERVICE + name for name in UNARY_METHODS] + [HEALTH_CHECK]
        # No serializers: bytes go in and come out.
        self.unary = {path: self._channel.unary_unary(path, None, None) for path in paths}  # by /service/method
        self.stream: Any = self._channel.stream_stream(SERVICE + STREAM, None, None)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

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
        content = request.SerializeToString()
        answer: bytes = await self.unary[SERVICE + method](content, timeout=timeout_s, metadata=self._control_metadata)
        return answer


def forwarded_metadata(metadata: Iterable[Any] | None) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata that is the caller's or Triton's own, without what belongs to one connection."""
    return tuple((key, value) for key, value in metadata or () if key != "user-agent" and not key.startswith("grpc-"))

"""Asking a running Triton, ours or any other, about its models, and telling it to load or unload one."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.errors import ModelLoadError, ModelUnloadError, ServerUnreachableError

CALL_TIMEOUT_S = 10.0
"""For calls that a live server answers at once."""

LOAD_TIMEOUT_S = 120.0
"""For loading a model: its backend starts, reads the graph and runs it once."""

POLL_S = 0.02
"""Between two looks at a model that is being unloaded."""


@dataclass(frozen=True)
class ModelState:
    """What a server says about one model."""

    version: int | None  # the newest version that answers requests; None where none does
    problem: str | None  # why the newest version that was tried could not be loaded, or None


def load_model(url: str, name: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> int:
    """Make a running server load the newest version of a model from its repository; return that version.

    The server answers requests with the version it had until the new one is warm, and keeps it if the new
    one fails.

    Args:
        url: HOST:PORT of the server's gRPC interface; it must run with ``--model-control-mode explicit``.
        name: the model's folder in the repository.
        timeout_s: how long loading may take.

    Raises:
        ServerUnreachableError: if no server answers at ``url``.
        ModelLoadError: if the server refuses or fails to load the model; the reason is the server's.
    """
    with _connection(url) as client:
        try:
            client.load_model(name, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise ModelLoadError(f"{url} cannot load model {name!r}: {one_line(error.message())}") from error
    version = model_states(url)[name].version
    assert version is not None, f"{url} loaded {name!r} and serves no version of it"
    return version


def unload_model(url: str, name: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> None:
    """Make a running server let go of a model; returns when the server no longer lists it as ready.

    Requests in flight are answered; later ones are refused as UNAVAILABLE. The server frees the memory when the
    last of them is done, which may be a moment after this returns. A model that is not loaded stays so.

    Args:
        url: HOST:PORT of the server's gRPC interface; it must run with ``--model-control-mode explicit``.
        name: the model's folder in the repository.
        timeout_s: how long that may take.

    Raises:
        ServerUnreachableError: if no server answers at ``url``.
        ModelUnloadError: if the server refuses, or still serves the model after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    with _connection(url) as client:
        try:
            client.unload_model(name, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise ModelUnloadError(f"{url} cannot unload model {name!r}: {one_line(error.message())}") from error
        while _is_ready(client, name):
            if time.monotonic() > deadline:
                raise ModelUnloadError(f"{url} still serves model {name!r} after {timeout_s:g} s")
            time.sleep(POLL_S)


def _is_ready(client: InferenceServerClient, name: str) -> bool:
    index = client.get_model_repository_index(client_timeout=CALL_TIMEOUT_S)
    return any(model.name == name and model.state == "READY" for model in index.models)


def model_states(url: str) -> dict[str, ModelState]:
    """The models of a server's repository by name, those that failed to load included.

    Raises:
        ServerUnreachableError: if no server answers at ``url``.
    """
    with _connection(url) as client:
        index = client.get_model_repository_index(client_timeout=CALL_TIMEOUT_S)
    states: dict[str, ModelState] = {}
    # One entry per model and version; a model without any version has an entry without one.
    for model in sorted(index.models, key=lambda entry: int(entry.version or 0)):
        known = states.get(model.name, ModelState(None, None))
        if model.state == "READY":
            states[model.name] = ModelState(int(model.version), None)
        elif model.reason == "unloaded":
            states[model.name] = known  # an older version that made room for a newer one
        else:
            states[model.name] = ModelState(known.version, one_line(model.reason) or "no version of it can be loaded")
    return states


def one_line(reason: str) -> str:
    """Triton's reason without the traceback of the Python backend behind it."""
    return " ".join(reason.split("\n\nAt:")[0].split()).removeprefix("Internal: ")


@contextlib.contextmanager
def _connection(url: str) -> Iterator[InferenceServerClient]:
    """A connection to a live server.

    Raises:
        ServerUnreachableError: if no server answers, then or within the ``with`` block.
    """
    # A proxy from the environment is for the outside world; gRPC would use it even for 127.0.0.1.
    with InferenceServerClient(url, channel_args=[("grpc.enable_http_proxy", 0)]) as client:
        try:
            if not client.is_server_live(client_timeout=CALL_TIMEOUT_S):
                raise ServerUnreachableError(f"the Triton server at {url} is starting or stopping")
            yield client
        except InferenceServerException as error:
            raise ServerUnreachableError(f"no Triton server answers at {url}: {one_line(error.message())}") from error

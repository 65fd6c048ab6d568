"""Asking a running Triton, ours or any other, about its models, and telling it to load one."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from semia.access import RESTRICTED, ServerAccess, tls_problem
from serving.errors import AccessRefusedError, ModelLoadError, ServerUnreachableError

CALL_TIMEOUT_S = 10.0
"""For calls that a live server answers at once."""

TLS_PROBLEM_TIMEOUT_S = 2.0
"""For finding out why TLS keeps us from a server."""

OPEN_TO_EVERYONE = ServerAccess()

LOAD_TIMEOUT_S = 120.0
"""For loading a model: its backend starts, reads the graph and runs it once."""


@dataclass(frozen=True)
class ModelState:
    """What a server says about one model."""

    version: int | None  # the newest version that answers requests; None where none does
    problem: str | None  # why the newest version that was tried could not be loaded, or None


def load_model(
    url: str, name: str, *, timeout_s: float = LOAD_TIMEOUT_S, access: ServerAccess = OPEN_TO_EVERYONE
) -> int:
    """Make a running server load the newest version of a model from its repository; return that version.

    The server answers requests with the version it had until the new one is warm, and keeps it if the new
    one fails.

    Args:
        url: HOST:PORT of the server's gRPC interface; it must run with ``--model-control-mode explicit``.
        name: the model's folder in the repository.
        timeout_s: how long loading may take.
        access: what the server asks for.

    Raises:
        ServerUnreachableError: if no server answers at ``url``, or TLS keeps us from it.
        AccessRefusedError: if the server keeps this to its operators, and ``access`` lacks the right key.
        ModelLoadError: if the server refuses or fails to load the model; the reason is the server's.
    """
    with _connection(url, access) as client:
        try:
            client.load_model(name, headers=access.headers, client_timeout=timeout_s)
        except InferenceServerException as error:
            if _is_restricted(error):
                raise
            raise ModelLoadError(f"{url} cannot load model {name!r}: {one_line(error.message())}") from error
    version = model_states(url, access=access)[name].version
    assert version is not None, f"{url} loaded {name!r} and serves no version of it"
    return version


def model_states(url: str, *, access: ServerAccess = OPEN_TO_EVERYONE) -> dict[str, ModelState]:
    """The models of a server's repository by name, those that failed to load included.

    Raises:
        ServerUnreachableError, AccessRefusedError: as `load_model`.
    """
    with _connection(url, access) as client:
        index = client.get_model_repository_index(headers=access.headers, client_timeout=CALL_TIMEOUT_S)
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
def _connection(url: str, access: ServerAccess) -> Iterator[InferenceServerClient]:
    """A connection to a live server.

    Raises:
        ServerUnreachableError: if no server answers, then or within the ``with`` block.
        AccessRefusedError: if it does not take the admin key.
    """
    with InferenceServerClient(url, creds=access.credentials, channel_args=access.channel_arguments) as client:
        try:
            if not client.is_server_live(client_timeout=CALL_TIMEOUT_S):
                raise ServerUnreachableError(f"the Triton server at {url} is starting or stopping")
            yield client
        except InferenceServerException as error:
            if _is_restricted(error):
                key = "another admin key" if access.admin_key else "the admin key (--admin-key-file)"
                raise AccessRefusedError(f"{url} keeps this to its operators: it wants {key}") from error
            if problem := tls_problem(url, access.tls, TLS_PROBLEM_TIMEOUT_S):
                raise ServerUnreachableError(f"cannot talk to the server at {url}: {problem}") from error
            raise ServerUnreachableError(f"no Triton server answers at {url}: {one_line(error.message())}") from error


def _is_restricted(error: InferenceServerException) -> bool:
    return RESTRICTED in (error.message() or "")

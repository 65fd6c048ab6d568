"""The gRPC connection to one server: finite deadlines, bounded messages, errors translated in one place."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from client.errors import (
    ClientError,
    DeadlineExceededError,
    NotASemiaModelError,
    ServerRefusedError,
    ServerUnavailableError,
)
from semia.labels import ClassIds
from semia.messages import MAX_MESSAGE_BYTES
from semia.model_card import INPUT_NAME, OUTPUT_NAME

MAX_RECONNECT_BACKOFF_MS = 2_000
"""gRPC's own limit, two minutes, would keep a client failing long after its server is back."""


class Deadline:
    """The moment by which a call is over, however many requests it makes."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left; 0 once the moment has passed."""
        return max(0.0, self._end - time.monotonic())


@dataclass(frozen=True)
class ReadyModel:
    """One version of a model, ready to serve."""

    name: str
    version: str


@dataclass(frozen=True)
class Answer:
    """What a model made of a label map."""

    picture: NDArray[np.uint8]  # [H, W, 3]
    version: str  # of the model that made it


class Connection:
    """A plain-text gRPC channel to a Triton server; threads may share it.

    It connects with the first request, and again after the server was away.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._triton = InferenceServerClient(
            url,
            channel_args=[
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
                # Else http_proxy, set for the web, would be asked for 127.0.0.1 too.
                ("grpc.enable_http_proxy", 0),
            ],
        )

    def close(self) -> None:
        """Close the channel."""
        self._triton.close()

    def ready_models(self, deadline: Deadline) -> list[ReadyModel]:
        """Every version of every model that the server is ready to serve."""
        with self._translated_errors(deadline):
            index = self._triton.get_model_repository_index(client_timeout=deadline.remaining_s())
        return [ReadyModel(entry.name, entry.version) for entry in index.models if entry.state == "READY"]

    def model_parameters(self, model: str, deadline: Deadline) -> dict[str, str]:
        """The ``parameters`` of the model's configuration."""
        with self._translated_errors(deadline):
            response = self._triton.get_model_config(model, client_timeout=deadline.remaining_s())
        return {key: parameter.string_value for key, parameter in response.config.parameters.items()}

    def infer(self, model: str, version: str, ids: ClassIds, deadline: Deadline) -> Answer:
        """Send class ids ``uint8[H, W]``; an empty ``version`` leaves the choice to the server."""
        batch = ids[np.newaxis]
        target = InferInput(INPUT_NAME, batch.shape, "UINT8")
        target.set_data_from_numpy(batch)
        with self._translated_errors(deadline):
            result = self._triton.infer(
                model,
                [target],
                model_version=version,
                outputs=[InferRequestedOutput(OUTPUT_NAME)],
                client_timeout=deadline.remaining_s(),
            )
        pictures = result.as_numpy(OUTPUT_NAME)
        expected = (*batch.shape, 3)
        if pictures is None or pictures.dtype != np.uint8 or pictures.shape != expected:
            received = "nothing" if pictures is None else f"{pictures.dtype}{list(pictures.shape)}"
            raise NotASemiaModelError(
                f"model {model!r} answered {received} where uint8{list(expected)} was expected: "
                "publish it anew with `semia publish`"
            )
        return Answer(pictures[0], result.get_response().model_version)

    @contextlib.contextmanager
    def _translated_errors(self, deadline: Deadline) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise self._client_error(error, deadline) from error

    def _client_error(self, error: InferenceServerException, deadline: Deadline) -> ClientError:
        status, message = error.status(), error.message()
        if status == str(grpc.StatusCode.DEADLINE_EXCEEDED):
            return DeadlineExceededError(f"the server at {self._url} did not answer within {deadline.timeout_s:g} s")
        # A live server, too, says UNAVAILABLE: of a full queue, or a model that is not loaded.
        if status == str(grpc.StatusCode.UNAVAILABLE) and not self._is_live(deadline):
            return ServerUnavailableError(
                f"no server answers at {self._url} ({message}): start one with `semia serve`, or give its address"
            )
        return ServerRefusedError(f"the server at {self._url} refused: {message} ({status})")

    def _is_live(self, deadline: Deadline) -> bool:
        try:
            live: bool = self._triton.is_server_live(client_timeout=deadline.remaining_s())
        except InferenceServerException:
            return False
        return live

"""Failures of the server and of the way to it, on sockets and servers that really fail."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from semia.client import (
    ClientError,
    ClientSettingsError,
    DeadlineExceededError,
    NotASemiaModelError,
    RetryOptions,
    ServerRefusedError,
    ServerUnavailableError,
    SynthesisClient,
    UnknownModelError,
)

PARAMETERS = {
    "canvas_height": "4",
    "canvas_width": "6",
    "palette": json.dumps(["#FF0000", "#00FF00", "#0000FF"]),
    "class_names": json.dumps([]),
    "model_card_sha256": "0" * 64,
}


@dataclass
class FakeTriton:
    """A real gRPC server that can be told to misbehave, as a real Triton cannot.

    Serves one model, "fake", that paints every class id as gray; tests change its fields while it runs.
    """

    version: str = "1"
    parameters: dict[str, str] = field(default_factory=lambda: dict(PARAMETERS))
    refuses_with: grpc.StatusCode | None = None  # inferences fail with this
    refusals: int = 1_000_000  # that many of them
    reason: str = "the reason"  # what is said of it
    live: bool = True  # whether it answers when asked for its health
    delay_s: float = 0.0  # before an inference is answered
    answers_with: NDArray[np.uint8] | None = None  # instead of the painted picture
    ready: bool = True
    publishes_during_infer: int = 0  # as many inferences are preceded by a new version
    requests: list[str] = field(default_factory=list)  # the names of the calls received
    ended_early: threading.Event = field(default_factory=threading.Event)  # a caller went away before its answer
    url: str = ""

    def server_live(self, _request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append("live")
        if not self.live:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return pb.ServerLiveResponse(live=True)

    def repository_index(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        self.requests.append("index")
        state = "READY" if self.ready else "UNAVAILABLE"
        entry = pb.RepositoryIndexResponse.ModelIndex
        broken = entry(name="broken", version="1", state="UNAVAILABLE", reason="cannot load")
        return pb.RepositoryIndexResponse(models=[entry(name="fake", version=self.version, state=state), broken])

    def model_metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append("metadata")
        if not self.ready:
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model")
        return pb.ModelMetadataResponse(name=request.name, versions=[self.version])

    def model_config(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        self.requests.append("config")
        response = pb.ModelConfigResponse()
        for key, value in self.parameters.items():
            response.config.parameters[key].string_value = value
        return response

    def model_infer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append("infer")
        time.sleep(self.delay_s)
        if not context.is_active():
            self.ended_early.set()
        if self.refuses_with is not None and self.refusals:
            self.refusals -= 1
            context.abort(self.refuses_with, self.reason)
        if self.publishes_during_infer:
            self.publishes_during_infer -= 1
            self.version = str(int(self.version) + 1)
        shape = tuple(request.inputs[0].shape)
        expected = (1, int(self.parameters["canvas_height"]), int(self.parameters["canvas_width"]))
        if shape != expected:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"unexpected shape {shape}")
        ids = np.frombuffer(request.raw_input_contents[0], dtype=np.uint8).reshape(shape)
        pictures = np.repeat(ids[..., np.newaxis], 3, axis=-1) if self.answers_with is None else self.answers_with
        output = pb.ModelInferResponse.InferOutputTensor(name="image", datatype="UINT8", shape=pictures.shape)
        return pb.ModelInferResponse(
            model_name="fake",
            model_version=request.model_version or self.version,
            outputs=[output],
            raw_output_contents=[pictures.tobytes()],
        )


@contextmanager
def running(fake: FakeTriton, address: str = "127.0.0.1:0") -> Iterator[FakeTriton]:
    """Serve on a loopback port, by default a free one; ``fake.url`` says which."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    calls = {
        "ServerLive": (fake.server_live, pb.ServerLiveRequest),
        "RepositoryIndex": (fake.repository_index, pb.RepositoryIndexRequest),
        "ModelMetadata": (fake.model_metadata, pb.ModelMetadataRequest),
        "ModelConfig": (fake.model_config, pb.ModelConfigRequest),
        "ModelInfer": (fake.model_infer, pb.ModelInferRequest),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=request.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (call, request) in calls.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)])
    fake.url = f"127.0.0.1:{server.add_insecure_port(address)}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(grace=None).wait()


ONCE = RetryOptions(attempts=1)

IDS = np.array([[0, 1, 2, 0, 1, 2]] * 4, dtype=np.uint8)


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with running(FakeTriton()) as server:
        yield server


def pixels(client: SynthesisClient, target: NDArray[np.uint8] = IDS) -> list[list[int]]:
    rows: list[list[int]] = np.asarray(client.synthesize("fake", target))[..., 0].tolist()
    return rows


@pytest.mark.parametrize("status", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_code_has_an_error(fake: FakeTriton, status: grpc.StatusCode) -> None:
    fake.refuses_with = status
    expected = DeadlineExceededError if status is grpc.StatusCode.DEADLINE_EXCEEDED else ServerRefusedError
    with SynthesisClient(fake.url, timeout_s=5, retries=ONCE) as client, pytest.raises(ClientError) as caught:
        client.synthesize("fake", IDS)
    assert type(caught.value) is expected
    assert caught.value.exit_code == 1
    assert caught.value.__cause__ is not None
    if expected is ServerRefusedError:
        assert "the reason" in str(caught.value)
        assert status.name in str(caught.value)


def test_unavailable_from_a_server_that_is_not_live_means_there_is_none(fake: FakeTriton) -> None:
    fake.refuses_with, fake.live = grpc.StatusCode.UNAVAILABLE, False
    with SynthesisClient(fake.url, retries=ONCE) as client, pytest.raises(ServerUnavailableError, match="the reason"):
        client.synthesize("fake", IDS)


def test_a_closed_port_fails_at_once_and_says_how_to_start_a_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{probe.getsockname()[1]}"
    start = time.monotonic()
    with (
        SynthesisClient(url, retries=ONCE) as client,
        pytest.raises(ServerUnavailableError, match="semia serve") as caught,
    ):
        client.models()
    assert url in str(caught.value)
    assert time.monotonic() - start < 5


def test_a_black_hole_meets_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = time.monotonic()
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        with SynthesisClient(url, timeout_s=0.5) as client, pytest.raises(DeadlineExceededError, match=r"0\.5 s"):
            client.synthesize("fake", IDS)
        assert 0.4 < time.monotonic() - start < 3


def test_one_deadline_covers_all_requests_of_a_call(fake: FakeTriton) -> None:
    # The stale description makes the first inference pointless; both together take longer than the deadline.
    with SynthesisClient(fake.url, timeout_s=1.0) as client:
        client.describe("fake")
        fake.version, fake.delay_s = "2", 0.7
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            client.synthesize("fake", IDS)
        assert time.monotonic() - start < 1.5


def test_a_client_outlives_its_server() -> None:
    fake = FakeTriton()
    with running(fake):
        client = SynthesisClient(fake.url, retries=ONCE)
        assert client.models() == ["fake"]
    with pytest.raises(ServerUnavailableError):
        client.models()
    with running(fake, fake.url):
        start = time.monotonic()
        while True:
            try:
                assert client.models() == ["fake"]
                break
            except ServerUnavailableError:
                assert time.monotonic() - start < 10, "gRPC's own back-off would be two minutes"
                time.sleep(0.1)
        client.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "localhost", "", ":8001", "h:0", "h:65536", "h:x", "h:"])
def test_impossible_addresses_are_refused(url: str) -> None:
    with pytest.raises(ClientSettingsError, match="HOST:PORT"):
        SynthesisClient(url)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    SynthesisClient("[::1]:8001")
    with pytest.raises(ClientSettingsError, match=r"in brackets, like \[::1\]:8001"):
        SynthesisClient("::1:8001")


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_impossible_deadlines_are_refused(timeout_s: float) -> None:
    with pytest.raises(ClientSettingsError, match="timeout_s"):
        SynthesisClient(timeout_s=timeout_s)


def test_only_ready_models_are_listed(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url) as client:
        assert client.models() == ["fake"]


def test_a_description_is_remembered(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url) as client:
        pixels(client)
        fake.requests.clear()
        assert pixels(client) == IDS.tolist()
    assert fake.requests == ["infer"]


def test_a_new_palette_is_noticed_by_the_version(fake: FakeTriton) -> None:
    red = np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)
    with SynthesisClient(fake.url) as client:
        assert client.class_ids("fake", red).max() == 0
        fake.version, fake.parameters["palette"] = "2", json.dumps(["#0000FF", "#FF0000"])
        assert np.unique(np.asarray(client.synthesize("fake", red))).tolist() == [1]


def test_a_new_color_is_noticed(fake: FakeTriton) -> None:
    white = np.full((4, 6, 3), 255, dtype=np.uint8)
    with SynthesisClient(fake.url) as client:
        client.describe("fake")
        fake.version, fake.parameters["palette"] = "2", json.dumps(["#000000", "#FFFFFF"])
        assert np.unique(np.asarray(client.synthesize("fake", white))).tolist() == [1]


def test_a_new_canvas_is_noticed(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url) as client:
        client.describe("fake")
        fake.version, fake.parameters["canvas_height"] = "2", "8"
        wider = np.vstack([IDS, IDS])
        assert pixels(client, wider) == wider.tolist()


def test_an_old_canvas_is_refused_with_the_new_one(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url) as client:
        client.describe("fake")
        fake.version, fake.parameters["canvas_height"] = "2", "8"
        with pytest.raises(ClientError, match="6x8"):
            client.synthesize("fake", IDS)


def test_a_model_that_is_gone_is_unknown(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url, retries=ONCE) as client:
        client.describe("fake")
        fake.ready, fake.refuses_with = False, grpc.StatusCode.UNAVAILABLE
        with pytest.raises(UnknownModelError, match=r"'fake'.*none"):
            client.synthesize("fake", IDS)


def test_a_model_published_during_the_call_is_asked_again(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url) as client:
        client.describe("fake")
        fake.publishes_during_infer = 1
        assert pixels(client) == IDS.tolist()
        fake.publishes_during_infer = 2
        with pytest.raises(ServerRefusedError, match="published anew"):
            client.synthesize("fake", IDS)


@pytest.mark.parametrize(
    "answer", [np.zeros((1, 4, 6), np.uint8), np.zeros((1, 6, 4, 3), np.uint8), np.zeros((0, 4, 6, 3), np.uint8)]
)
def test_an_answer_of_the_wrong_shape_is_refused(fake: FakeTriton, answer: NDArray[np.uint8]) -> None:
    fake.answers_with = answer
    with SynthesisClient(fake.url) as client, pytest.raises(NotASemiaModelError, match="uint8"):
        client.synthesize("fake", IDS)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("canvas_height", None),
        ("model_card_sha256", None),
        ("canvas_width", "wide"),
        ("canvas_width", "0"),
        ("palette", "[]"),
        ("palette", '["red"]'),
        ("palette", "[1, 2]"),
        ("palette", "5"),
        ("palette", "not JSON"),
        ("class_names", '["one"]'),
        ("class_names", "7"),
    ],
)
def test_models_of_others_are_told_apart(fake: FakeTriton, parameter: str, value: str | None) -> None:
    if value is None:
        del fake.parameters[parameter]
    else:
        fake.parameters[parameter] = value
    with SynthesisClient(fake.url) as client, pytest.raises(NotASemiaModelError, match="semia publish") as caught:
        client.describe("fake")
    assert caught.value.exit_code == 2

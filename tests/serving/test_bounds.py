"""More requests than a model can answer: the real server refuses or drops them, and goes on."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME, ModelCard
from semia.core.palette import Palette
from semia.serving import ServerOptions, ServingSettings, TritonServer, publish

MakeBundle = Callable[..., Path]

SIDE = 256
ROUNDS = 500
"""Of products of two matrices of `SIDE`, 34 MFLOP each: a picture takes a few tenths of a second."""

IDS = np.random.default_rng(0).integers(0, 3, (1, 48, 64), dtype=np.uint8)


def slow_down(bundle: Path) -> None:
    """Have a bundle's graph do much arithmetic that changes nothing."""
    model = onnx.load(bundle / MODEL_FILE)
    node, value = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["going"], ["on"]), node("MatMul", ["matrix", "identity"], ["product"])],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("matrix", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [value("on", TensorProto.BOOL, []), value("product", TensorProto.FLOAT, [SIDE, SIDE])],
    )
    constants: dict[str, NDArray[Any]] = {
        "identity": np.eye(SIDE, dtype=np.float32),
        "rounds": np.array(ROUNDS, np.int64),
        "yes": np.array(True),
        "nought": np.array(0, np.int32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    del model.graph.node[:]
    model.graph.node.extend(
        [
            node("Cast", [INPUT_NAME], ["ids"], to=TensorProto.INT32),
            node("ReduceMax", ["ids"], ["largest"], keepdims=0),  # of the input, or it would be computed at loading
            node("Cast", ["largest"], ["number"], to=TensorProto.FLOAT),
            node("Add", ["identity", "number"], ["start"]),
            node("Loop", ["rounds", "yes", "start"], ["end"], body=body),
            node("ReduceMax", ["end"], ["peak"], keepdims=0),
            node("Cast", ["peak"], ["whole"], to=TensorProto.INT32),
            node("Mul", ["whole", "nought"], ["nothing"]),
            node("Add", ["ids", "nothing"], ["same"]),
            node("Gather", ["palette", "same"], [OUTPUT_NAME], axis=0),
        ]
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, bundle / MODEL_FILE)
    card = ModelCard.read(bundle / CARD_FILE)
    dataclasses.replace(card, graph_sha256=sha256_of_file(bundle / MODEL_FILE)).write(bundle / CARD_FILE)


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    status: str  # "" for a picture that was right
    message: str
    seconds: float


class Busy:
    """Calls a busy server."""

    def __init__(self, client: InferenceServerClient, palette: Palette) -> None:
        self.client = client
        self.expected = palette.array[IDS]

    def ask(self, model: str, *, deadline_s: float = 60.0, wait_s: float | None = None) -> Outcome:
        """One request, which may say how long it is willing to wait in the queue."""
        tensor = InferInput(INPUT_NAME, IDS.shape, "UINT8")
        tensor.set_data_from_numpy(IDS)
        start, status, message = time.perf_counter(), "", ""
        timeout = None if wait_s is None else round(wait_s * 1e6)
        try:
            answer = self.client.infer(model, [tensor], client_timeout=deadline_s, timeout=timeout)
            np.testing.assert_array_equal(answer.as_numpy(OUTPUT_NAME), self.expected)
        except InferenceServerException as error:
            status, message = error.status().removeprefix("StatusCode."), error.message()
        return Outcome(status, message, time.perf_counter() - start)

    def ask_at_once(self, requests: int, model: str, **how: float) -> list[Outcome]:
        with ThreadPoolExecutor(requests) as executor:
            calls = [executor.submit(self.ask, model, **how) for _ in range(requests)]
            return [call.result() for call in calls]


@pytest.fixture(scope="module")
def busy(
    embedded_triton: None,
    make_bundle: MakeBundle,
    server_options: Callable[[], ServerOptions],
    tiny_palette: Palette,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Busy]:
    """A server of one slow graph under several bounds."""
    folder = tmp_path_factory.mktemp("slow")
    bundle = make_bundle(folder / "bundle")
    slow_down(bundle)
    for name, settings in {
        "unbounded": ServingSettings(threads=1),
        "short": ServingSettings(threads=1, batching=False, queue_size=3, queue_timeout_s=30),
        "impatient": ServingSettings(threads=1, batching=False, queue_timeout_s=0.05),
    }.items():
        publish(bundle, folder / "repository", name=name, settings=settings)
    with (
        TritonServer(folder / "repository", server_options()) as server,
        InferenceServerClient(server.grpc_url, channel_args=[("grpc.enable_http_proxy", 0)]) as client,
    ):
        yield Busy(client, tiny_palette)


def test_a_full_queue_refuses_at_once(busy: Busy) -> None:
    alone = busy.ask("short").seconds
    outcomes = busy.ask_at_once(9, "short")
    refused = [outcome for outcome in outcomes if outcome.status]
    assert 3 <= len(refused) <= 6, "one is computed, three wait, and others may have come after the first was done"
    for outcome in refused:
        assert (outcome.status, outcome.message.partition("] ")[2]) == ("UNAVAILABLE", "Exceeds maximum queue size")
    assert min(outcome.seconds for outcome in refused) < alone / 2
    assert busy.ask("short").status == ""


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("impatient", {}),
        ("impatient", {"wait_s": 60}),  # callers cannot wait longer than the configuration says
        ("short", {"wait_s": 0.05}),  # but less
    ],
)
def test_who_waits_too_long_is_refused(busy: Busy, model: str, how: dict[str, float]) -> None:
    outcomes = busy.ask_at_once(3, model, **how)
    refused = [outcome for outcome in outcomes if outcome.status]
    assert refused
    for outcome in refused:
        assert (outcome.status, outcome.message) == ("UNAVAILABLE", "Request timeout expired")
    assert busy.ask("short").status == ""


def test_what_nobody_waits_for_is_dropped(busy: Busy) -> None:
    """Else a server once too busy would stay so: every caller gives up on a picture that is then computed."""
    alone = busy.ask("unbounded").seconds
    outcomes = busy.ask_at_once(12, "unbounded", deadline_s=alone / 4)
    assert {outcome.status for outcome in outcomes} == {"DEADLINE_EXCEEDED"}
    next_one = busy.ask("unbounded")
    assert next_one.status == ""
    assert next_one.seconds < 6 * alone, "those twelve were computed"

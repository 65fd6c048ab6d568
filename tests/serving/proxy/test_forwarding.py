"""A real Triton with more models on disk than may be in memory, called through its proxy."""

import contextlib
import dataclasses
import logging
import os
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException

from semia import serving
from semia.client import SynthesisClient
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.machine import child_processes
from semia.core.model_card import CARD_FILE, MODEL_FILE
from semia.core.palette import Palette
from semia.serving import ServerOptions, TritonServer
from semia.serving.proxy.forwarding import LOADED_WHEN_CALLED, ProxyThread
from semia.serving.triton.watchdog import POLL_S

MakeBundle = Callable[..., Path]
MakeOptions = Callable[[], ServerOptions]

COUNT, MAX_LOADED = 6, 2
IDS = np.ones((48, 64), np.uint8)


def color(number: int) -> tuple[int, int, int]:
    """What model number so-and-so paints class 1 in: a picture tells which model made it."""
    return (number, 255 - number, 7)


def stubs(server: TritonServer) -> int:
    """Triton's children: one for each model in memory, or on its way in or out."""
    tasks = Path(f"/proc/{server.pid}/task").glob("*/children")
    return sum(len(children.read_text().split()) for children in tasks)


def in_memory(triton: InferenceServerClient) -> set[str]:
    index = triton.get_model_repository_index(client_timeout=20)
    return {entry.name for entry in index.models if entry.state == "READY" and entry.reason != LOADED_WHEN_CALLED}


@pytest.fixture(scope="module")
def server(
    embedded_triton: None,
    make_bundle: MakeBundle,
    server_options: MakeOptions,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("many")
    repository = folder / "model_repository"
    for number in range(COUNT):
        palette = Palette(((9, 9, number), color(number)))
        serving.publish(make_bundle(folder / str(number), name=f"model{number}", palette=palette), repository)
    broken = make_bundle(folder / "broken", name="broken")
    whole = sha256_of_file(broken / MODEL_FILE)
    (broken / MODEL_FILE).write_bytes(b"this is no graph")
    card = (broken / CARD_FILE).read_text().replace(whole, sha256_of_file(broken / MODEL_FILE))
    (broken / CARD_FILE).write_text(card)
    serving.publish(broken, repository)
    with TritonServer(repository, dataclasses.replace(server_options(), max_loaded=MAX_LOADED)) as running:
        yield running


@pytest.fixture(scope="module")
def triton(server: TritonServer) -> Iterator[InferenceServerClient]:
    """Triton's own client, of the proxy."""
    with InferenceServerClient(server.grpc_url) as connected:
        yield connected


def request(ids: NDArray[np.uint8] = IDS[np.newaxis]) -> list[InferInput]:
    tensor = InferInput("target_labels", ids.shape, "UINT8")
    tensor.set_data_from_numpy(ids)
    return [tensor]


def test_nothing_is_loaded_before_it_is_called(server: TritonServer, triton: InferenceServerClient) -> None:
    names = [f"model{number}" for number in range(COUNT)]
    assert sorted(server.models) == ["broken", *names]
    assert server.failed_models == {}
    with SynthesisClient(server.grpc_url) as client:
        assert client.models() == ["broken", *names]
    assert triton.is_server_ready(client_timeout=20)
    assert triton.is_model_ready("model0", client_timeout=20)
    assert triton.is_model_ready("model0", "1", client_timeout=20)
    assert not triton.is_model_ready("model0", "2", client_timeout=20)
    assert not triton.is_model_ready("nonesuch", client_timeout=20)
    assert serving.model_states(server.grpc_url)["model5"] == serving.ModelState(1, None, newest=1)
    assert in_memory(triton) == set()
    assert stubs(server) == 0


def test_every_call_is_answered_by_the_model_it_is_for_and_memory_is_bounded(
    server: TritonServer, triton: InferenceServerClient
) -> None:
    done = threading.Event()
    most = {"models": 0, "processes": 0}

    def look() -> None:
        while not done.is_set():
            most["models"] = max(most["models"], len(in_memory(triton)))
            most["processes"] = max(most["processes"], stubs(server))
            time.sleep(0.02)

    def call(caller: int) -> None:
        chance = np.random.default_rng(caller)
        for number in chance.integers(COUNT, size=3):
            picture = np.asarray(client.synthesize(f"model{number}", IDS))
            assert (picture == color(int(number))).all(), f"another model answered for model{number}"

    with SynthesisClient(server.grpc_url, timeout_s=60) as client, ThreadPoolExecutor(4) as pool:
        looking = pool.submit(look)
        try:
            for result in [pool.submit(call, caller) for caller in range(3)]:
                result.result()
        finally:
            done.set()
        looking.result()
    assert 1 <= most["models"] <= MAX_LOADED
    assert most["processes"] <= MAX_LOADED + 1, "one more may be on its way out"


def test_what_cannot_be_answered_has_a_clear_status(server: TritonServer, triton: InferenceServerClient) -> None:
    refusals = {}
    for name, ids in (
        ("nonesuch", IDS[np.newaxis]),
        ("../model0", IDS[np.newaxis]),
        ("broken", IDS[np.newaxis]),
        ("model0", np.zeros((1, 5, 5), np.uint8)),
    ):
        with pytest.raises(InferenceServerException) as caught:
            triton.infer(name, request(ids), client_timeout=20)
        refusals[name] = caught.value.status(), caught.value.message()
    assert refusals["nonesuch"] == ("StatusCode.NOT_FOUND", "Request for unknown model: 'nonesuch' is not found")
    assert refusals["../model0"][0] == "StatusCode.NOT_FOUND"
    assert refusals["broken"][0] == "StatusCode.FAILED_PRECONDITION"
    assert "INVALID_PROTOBUF" in refusals["broken"][1]
    assert refusals["model0"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "INVALID_PROTOBUF" in (serving.model_states(server.grpc_url)["broken"].problem or "")
    with pytest.raises(serving.ModelLoadError, match="INVALID_PROTOBUF"):
        serving.load_model(server.grpc_url, "broken")


def test_a_deadline_passes_while_the_model_is_loaded(server: TritonServer, triton: InferenceServerClient) -> None:
    cold = next(name for name in sorted(server.models) if name != "broken" and name not in in_memory(triton))
    give_up = time.monotonic() + 20
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(cold, request(), client_timeout=0.05)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    while cold not in in_memory(triton):
        assert time.monotonic() < give_up, "the load was not finished for the next caller"
        # A call whose deadline passed before its turn came has nothing loaded: call again, each time too short for it.
        with contextlib.suppress(InferenceServerException):
            triton.infer(cold, request(), client_timeout=0.05)


def test_an_operators_loads_and_unloads_count(
    server: TritonServer, triton: InferenceServerClient, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    assert serving.load_model(server.grpc_url, "model4") == 1
    assert "model4" in in_memory(triton)
    serving.publish(
        make_bundle(tmp_path / "new", palette=Palette(((1, 1, 1), (2, 2, 2)))),
        server.repository,
        name="model4",
        change_classes=True,
    )
    result = triton.infer("model4", request(), client_timeout=20)
    assert (result.as_numpy("image") == color(4)).all(), "not before it is told to"
    assert serving.load_model(server.grpc_url, "model4") == 2
    assert (triton.infer("model4", request(), client_timeout=20).as_numpy("image") == 2).all()
    triton.unload_model("model4", client_timeout=20)
    assert "model4" not in in_memory(triton)
    assert len(in_memory(triton)) < MAX_LOADED
    assert not triton.is_model_ready("model4", client_timeout=20)
    assert serving.model_states(server.grpc_url)["model4"].version is None
    with pytest.raises(InferenceServerException, match="'model4' was unloaded") as caught:
        triton.infer("model4", request(), client_timeout=20)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert serving.load_model(server.grpc_url, "model4") == 2
    assert (triton.infer("model4", request(), client_timeout=20).as_numpy("image") == 2).all()


def test_a_model_whose_process_is_killed_comes_back_and_memory_stays_bounded(
    server: TritonServer, triton: InferenceServerClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (triton.infer("model2", request(), client_timeout=20).as_numpy("image") == color(2)).all()
    time.sleep(2 * POLL_S)  # now the watchdog knows its process
    (killed,) = [pid for pid in child_processes(server.pid) if "/model2/" in Path(f"/proc/{pid}/cmdline").read_text()]
    with caplog.at_level(logging.WARNING):
        os.kill(killed, signal.SIGKILL)
        give_up = time.monotonic() + 20
        while "model model2 has a process again" not in caplog.text:
            assert time.monotonic() < give_up, caplog.text
            time.sleep(0.02)
    assert (triton.infer("model2", request(), client_timeout=20).as_numpy("image") == color(2)).all()
    assert "model2" in in_memory(triton)
    assert len(in_memory(triton)) <= MAX_LOADED


def test_a_stream_has_its_models_loaded_too(server: TritonServer, triton: InferenceServerClient) -> None:
    answers: queue.Queue[tuple[InferResult, InferenceServerException | None]] = queue.Queue()
    with InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        seen = []
        for name in ("model0", "nonesuch", "model1", "model0"):
            client.async_stream_infer(name, request())
            result, error = answers.get(timeout=20)
            seen.append(str(error) if error is not None else tuple(result.as_numpy("image")[0, 0, 0]))
        client.stop_stream()
    assert seen == [color(0), "Request for unknown model: 'nonesuch' is not found", color(1), color(0)]


def test_other_methods_pass_and_unknown_ones_are_refused(server: TritonServer, triton: InferenceServerClient) -> None:
    assert triton.get_server_metadata(client_timeout=20).name == "triton"
    with grpc.insecure_channel(server.grpc_url) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check", None, None)(b"", timeout=20) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/Nonesuch", None, None)(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            infer(b"this is no message", timeout=20)
        assert caught.value.code() is grpc.StatusCode.INTERNAL, "in Triton's own words"


def test_a_dead_triton_is_unavailable_and_ends_the_server(
    embedded_triton: None, tiny_bundle: Path, server_options: MakeOptions, tmp_path: Path
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    options = dataclasses.replace(server_options(), max_loaded=1)
    with TritonServer(tmp_path / "repository", options) as server, InferenceServerClient(server.grpc_url) as triton:
        assert triton.is_server_ready(client_timeout=20)
        os.kill(server.pid, signal.SIGKILL)  # as the kernel does where memory runs out
        assert server.wait() == -signal.SIGKILL
        with pytest.raises(InferenceServerException) as caught:
            triton.infer("tiny", request(), client_timeout=20)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"


def test_a_front_that_fails_ends_triton(
    embedded_triton: None,
    tiny_bundle: Path,
    server_options: MakeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")

    async def fail(proxy: ProxyThread) -> None:
        proxy._listening.set_result(None)
        raise OSError("out of file descriptors")

    monkeypatch.setattr(ProxyThread, "_serve", fail)
    options = dataclasses.replace(server_options(), max_loaded=1)
    with (
        TritonServer(tmp_path / "repository", options) as server,
        pytest.raises(serving.ServerError, match="the gRPC proxy failed: out of file descriptors"),
    ):
        server.wait()


def test_a_temporary_folder_that_is_too_deep_for_a_socket_is_named(
    embedded_triton: None, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(InputError, match="too long for a socket: set TMPDIR to a shorter path"):
        TritonServer(tmp_path / "repository", dataclasses.replace(ServerOptions.on_free_ports(), max_loaded=1)).start()
    assert [*deep.iterdir()] == []

"""A real Triton: started, asked, reloaded, stopped, and killed."""

import dataclasses
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from semia import serving
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, MODEL_FILE
from semia.core.palette import Palette
from semia.serving import ServerOptions, TritonServer
from semia.serving.triton.server import SHARED_MEMORY, last_error
from tests.conftest import SmallDisk

MakeBundle = Callable[..., Path]
MakeOptions = Callable[[], ServerOptions]


def ask(url: str, ids: NDArray[Any], model: str = "tiny") -> NDArray[np.uint8]:
    tensor = InferInput("target_labels", ids.shape, np_to_triton_dtype(ids.dtype))
    tensor.set_data_from_numpy(ids)
    with InferenceServerClient(url) as client:
        image: NDArray[np.uint8] = client.infer(model, [tensor], client_timeout=20).as_numpy("image")
        return image


def processes_of(session: int) -> list[str]:
    """The living processes of a session, zombies excluded: Triton starts one, and its stubs stay in it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, _, process_session = fields.split()[:4]
        if int(process_session) == session and state != "Z":
            found.append(name)
    return found


def wait_until_gone(session: int, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while processes := processes_of(session):
        assert time.monotonic() < deadline, f"still running: {processes}"
        time.sleep(0.05)


def corrupt(bundle: Path, folder: Path, make_name: str = "broken") -> Path:
    """A copy of a bundle whose graph matches its card and is not ONNX."""
    shutil.copytree(bundle, folder)
    (folder / MODEL_FILE).write_bytes(b"this is no graph")
    card = (folder / CARD_FILE).read_text()
    card = card.replace(sha256_of_file(bundle / MODEL_FILE), sha256_of_file(folder / MODEL_FILE))
    (folder / CARD_FILE).write_text(card.replace('"tiny"', f'"{make_name}"'))
    return folder


# Serving


def test_pixels_are_the_graphs(triton: TritonServer) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (8, 48, 64), dtype=np.uint8)
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    image = ask(triton.grpc_url, ids)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, colors[ids])
    assert triton.models == {"tiny": 1}
    assert triton.failed_models == {}


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (np.full((1, 48, 64), 3, np.uint8), "class id 3, and the model has 3 classes"),
        (np.zeros((1, 48, 63), np.uint8), "unexpected shape"),
        (np.zeros((9, 48, 64), np.uint8), "batch-size must be <= 8"),
        (np.zeros((1, 48, 64), np.float32), "UINT8"),
    ],
)
def test_a_bad_request_is_refused_and_the_next_one_answered(
    triton: TritonServer, ids: NDArray[np.uint8], reason: str
) -> None:
    with pytest.raises(InferenceServerException, match=reason) as raised:
        ask(triton.grpc_url, ids)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert (ask(triton.grpc_url, np.zeros((1, 48, 64), np.uint8)) == (255, 0, 0)).all()


def test_a_round_trip_takes_milliseconds(triton: TritonServer, record_property: Callable[[str, object], None]) -> None:
    tensor = InferInput("target_labels", (1, 48, 64), "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 48, 64), np.uint8))
    seconds = []
    with InferenceServerClient(triton.grpc_url) as client:
        for _ in range(50):
            start = time.perf_counter()
            client.infer("tiny", [tensor], client_timeout=20)
            seconds.append(time.perf_counter() - start)
    record_property("round_trip_ms", 1e3 * statistics.median(seconds))
    assert statistics.median(seconds) < 0.05


@pytest.fixture(scope="module")
def server(
    embedded_triton: None, tiny_bundle: Path, server_options: MakeOptions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A server of this module's own, with a broken model beside a good one, under a path with a space."""
    folder = tmp_path_factory.mktemp("own")
    repository = folder / "model repository"
    serving.publish(tiny_bundle, repository)
    serving.publish(corrupt(tiny_bundle, folder / "broken"), repository)
    (repository / "empty").mkdir()
    with TritonServer(repository, server_options()) as running:
        session, runtime = running.pid, running.log_path.parent
        assert processes_of(session), "processes_of must see a running server"
        yield running
    assert processes_of(session) == []
    assert not runtime.exists()
    running.stop()  # harmless


def test_a_broken_model_is_named_and_the_others_serve(server: TritonServer) -> None:
    assert server.models == {"tiny": 1}
    assert sorted(server.failed_models) == ["broken", "empty"]
    assert "model.onnx" in server.failed_models["broken"]
    assert "\n" not in server.failed_models["broken"]
    assert "version" in server.failed_models["empty"]
    assert (ask(server.grpc_url, np.ones((1, 48, 64), np.uint8)) == (0, 255, 0)).all()


def test_a_new_version_is_loaded_while_running_and_survives_a_broken_one(
    server: TritonServer, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    gray = make_bundle(tmp_path / "gray", palette=Palette(((9, 9, 9), (250, 250, 250))), height=20, width=30)
    assert serving.publish(gray, server.repository, name="tiny", change_classes=True).version == 2
    assert (ask(server.grpc_url, np.ones((1, 48, 64), np.uint8)) == (0, 255, 0)).all(), "not before it is told to"

    assert serving.load_model(server.grpc_url, "tiny") == 2
    assert (ask(server.grpc_url, np.ones((1, 20, 30), np.uint8)) == 250).all()

    assert serving.publish(corrupt(gray, tmp_path / "broken"), server.repository, name="tiny").version == 3
    with pytest.raises(serving.ModelLoadError, match=r"cannot load model 'tiny'.*INVALID_PROTOBUF"):
        serving.load_model(server.grpc_url, "tiny")
    assert (ask(server.grpc_url, np.ones((1, 20, 30), np.uint8)) == 250).all()
    state = serving.model_states(server.grpc_url)["tiny"]
    assert state.version == 2
    assert "INVALID_PROTOBUF" in (state.problem or "")

    assert serving.publish(gray, server.repository, name="tiny", change_classes=True).version == 4
    assert serving.load_model(server.grpc_url, "tiny") == 4


def test_a_model_published_later_can_be_loaded(server: TritonServer, tiny_bundle: Path) -> None:
    serving.publish(tiny_bundle, server.repository, name="later")
    assert serving.load_model(server.grpc_url, "later") == 1
    assert (ask(server.grpc_url, np.ones((1, 48, 64), np.uint8), "later") == (0, 255, 0)).all()


def test_loading_an_unknown_model_names_it(triton: TritonServer) -> None:
    with pytest.raises(serving.ModelLoadError, match="cannot load model 'nonesuch'"):
        serving.load_model(triton.grpc_url, "nonesuch")


def test_controlling_a_server_that_is_not_there(server_options: MakeOptions) -> None:
    url = f"127.0.0.1:{server_options().grpc_port}"
    with pytest.raises(serving.ServerUnreachableError, match=f"no Triton server answers at {url}"):
        serving.load_model(url, "tiny")


def test_a_repository_that_is_gone_is_no_server_that_is_gone(
    embedded_triton: None, tiny_bundle: Path, server_options: MakeOptions, tmp_path: Path
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    with TritonServer(tmp_path / "repository", server_options()) as server:
        (tmp_path / "repository").rename(tmp_path / "elsewhere")
        assert (ask(server.grpc_url, np.ones((1, 48, 64), np.uint8)) == (0, 255, 0)).all()
        with pytest.raises(
            serving.ServerUnreachableError, match=r"the Triton server at .* fails: failed to open directory"
        ):
            serving.model_states(server.grpc_url)


# Before anything starts


@pytest.mark.parametrize(
    ("field", "service"), [("grpc_port", "gRPC"), ("http_port", "HTTP"), ("metrics_port", "metrics")]
)
def test_a_taken_port_is_named(
    tiny_bundle: Path, server_options: MakeOptions, tmp_path: Path, field: str, service: str
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        options = dataclasses.replace(server_options(), **{field: port})
        flag = field.replace("_", "-")
        with pytest.raises(
            serving.PortTakenError, match=rf"^{service} port {port} is taken on 127\.0\.0\.1: .*--{flag}$"
        ) as caught:
            TritonServer(tmp_path / "repository", options).start()
    assert caught.value.exit_code == 2


def test_a_server_may_listen_on_ipv6(
    embedded_triton: None, triton: TritonServer, server_options: MakeOptions, tmp_path: Path
) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    options = dataclasses.replace(server_options(), host="::1")
    with TritonServer(triton.repository, options) as server:
        assert server.grpc_url == f"[::1]:{options.grpc_port}"
        assert (ask(server.grpc_url, np.ones((1, 48, 64), np.uint8)) == (0, 255, 0)).all()
        with urllib.request.urlopen(f"http://[::1]:{options.metrics_port}/metrics") as answer:
            assert b"nv_inference_request_success" in answer.read()
        with pytest.raises(serving.PortTakenError, match=f"gRPC port {options.grpc_port} is taken on ::1"):
            TritonServer(triton.repository, options).start()


def test_a_temporary_folder_without_room_is_named(
    embedded_triton: None,
    triton: TritonServer,
    server_options: MakeOptions,
    small_disk: SmallDisk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk.path))
    small_disk.leave(100_000)
    with pytest.raises(serving.ServerError, match=r"temporary folder: .*No space left.*; set TMPDIR to another"):
        TritonServer(triton.repository, server_options()).start()
    assert [path.name for path in small_disk.path.iterdir()] == ["filler"]


@pytest.mark.parametrize("url", ["127.0.0.1:99999", "::1:8001", "nowhere"])
def test_an_address_that_is_none_is_bad_input(url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a server"):
        serving.model_states(url)


def test_an_address_of_another_machine_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    options = ServerOptions(host="192.0.2.1", admin_key_file=tmp_path / "admin.key")
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1:8001"):
        TritonServer(tmp_path / "repository", options).start()


def test_an_empty_repository_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(serving.RepositoryError, match=r"nothing is published in .*: run `semia publish`"):
        TritonServer(tmp_path).start()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grpc_port": 0}, "gRPC port must be 1 to 65535, not 0"),
        ({"http_port": 8002}, "gRPC, HTTP, metrics need different ports"),
        ({"http_port": 8000, "max_loaded": 1}, "gRPC alone"),
        ({"host": "0.0.0.0"}, "whoever reaches 0.0.0.0 could load a model with code of their own"),  # noqa: S104
        ({"binary": "docker"}, "binary must be one of auto, embedded, system, not 'docker'"),
        ({"timeout_s": 0.0}, "timeout_s must be positive"),
        ({"max_loaded": 0}, "max_loaded must be at least 1, not 0"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServerOptions(**changes)


# Starts that fail


def test_a_repository_of_broken_models_is_an_error_with_the_cause(
    embedded_triton: None, tiny_bundle: Path, server_options: MakeOptions, tmp_path: Path
) -> None:
    serving.publish(corrupt(tiny_bundle, tmp_path / "broken"), tmp_path / "repository")
    server = TritonServer(tmp_path / "repository", server_options())
    with pytest.raises(serving.ServerStartError, match=r"can serve no model .*: broken: .*INVALID_PROTOBUF") as caught:
        server.start()
    assert str(server.log_path) in str(caught.value)
    assert "INVALID_PROTOBUF" in server.log_path.read_text()
    shutil.rmtree(server.log_path.parent)


@pytest.fixture
def fake_triton(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a shell script called tritonserver on PATH; returns a repository to serve with it."""

    def make(script: str) -> Path:
        program = tmp_path / "bin" / "tritonserver"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        serving.publish(tiny_bundle, tmp_path / "repository")
        return tmp_path / "repository"

    return make


def test_a_server_that_dies_at_the_start_names_the_cause(
    fake_triton: Callable[[str], Path], server_options: MakeOptions
) -> None:
    repository = fake_triton("echo 'tritonserver: error while loading shared libraries: libfoo.so'; exit 127")
    options = ServerOptions(**{**vars(server_options()), "binary": "system"})
    with pytest.raises(
        serving.ServerStartError, match=r"ended with exit code 127: .*libfoo\.so \(log: .*triton\.log\)$"
    ):
        TritonServer(repository, options).start()


def test_a_server_that_never_answers_is_given_up_and_ended(
    fake_triton: Callable[[str], Path], server_options: MakeOptions, tmp_path: Path
) -> None:
    repository = fake_triton(f"echo $$ > {tmp_path}/pid; echo thinking; exec sleep 60")
    options = ServerOptions(**{**vars(server_options()), "binary": "system", "timeout_s": 0.5})
    with pytest.raises(serving.ServerStartError, match=r"Triton is not ready after 0\.5 s: it logged no error \(log"):
        TritonServer(repository, options).start()
    wait_until_gone(int((tmp_path / "pid").read_text()), timeout_s=1)


def test_no_triton_at_all_names_both_remedies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> None:
        raise serving.TritonNotFoundError("the embedded Triton is not installed: pip install it")

    monkeypatch.setattr("semia.serving.triton.server.locate_embedded_triton", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(serving.TritonNotFoundError, match="pip install it; nor is there a tritonserver on PATH"):
        serving.find_triton("auto", tmp_path, tmp_path)
    with pytest.raises(serving.TritonNotFoundError, match="no tritonserver on PATH"):
        serving.find_triton("system", tmp_path, tmp_path)


def test_auto_falls_back_to_the_systems_triton(
    monkeypatch: pytest.MonkeyPatch, fake_triton: Callable[[str], Path], tmp_path: Path
) -> None:
    def missing() -> None:
        raise serving.TritonNotFoundError("the embedded Triton is not installed")

    monkeypatch.setattr("semia.serving.triton.server.locate_embedded_triton", missing)
    fake_triton("exit 0")
    command = serving.find_triton("auto", tmp_path, Path("/my models"))
    assert command.program == tmp_path / "bin" / "tritonserver"
    assert command.arguments == ("--model-repository=/my models",)


# Ends that nobody asked for


def test_the_server_dies_with_its_parent(
    embedded_triton: None, tiny_bundle: Path, server_options: MakeOptions, tmp_path: Path
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    script = f"""
from pathlib import Path
from semia import serving
server = serving.TritonServer(Path({str(tmp_path / "repository")!r}), serving.{server_options()!r})
server.start()
print(server.pid, flush=True)
server.wait()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(serving.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        session = int(parent.stdout.readline())
        assert len(processes_of(session)) == 2, "Triton and its stub"
        parent.kill()
    wait_until_gone(session)


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["alone", "with its stub"])
def test_a_killed_server_is_noticed_and_leaves_nothing_but_its_log(
    kill: Callable[[int, int], None],
    embedded_triton: None,
    tiny_bundle: Path,
    server_options: MakeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    serving.publish(tiny_bundle, tmp_path / "repository")
    with TritonServer(tmp_path / "repository", server_options()) as server:
        session, log = server.pid, server.log_path
        regions = f"{log.parent.name}-*"
        assert [*SHARED_MEMORY.glob(regions)], "Triton and its stub share memory under a name of ours"
        kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        wait_until_gone(session)
    assert [*log.parent.glob("[!.]*")] == [log], "of a server that failed, the log is kept"
    assert not [*SHARED_MEMORY.glob(regions)]


def test_the_next_server_removes_what_one_left_that_was_killed_with_its_parent(
    embedded_triton: None, tiny_bundle: Path, server_options: MakeOptions, tmp_path: Path
) -> None:
    serving.publish(tiny_bundle, tmp_path / "repository")
    script = f"""
from semia import serving
server = serving.TritonServer({str(tmp_path / "repository")!r}, serving.{server_options()!r})
server.start()
print(server.pid, server.log_path.parent.name, flush=True)
server.wait()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(serving.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    killed: list[str] = []
    for each in range(2):
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid, runtime = parent.stdout.readline().split()
            assert [*SHARED_MEMORY.glob(f"{runtime}-*")]
            if each:
                assert [path.name for path in tmp_path.glob("semia-server-*")] == [runtime]
                assert not [*SHARED_MEMORY.glob(f"{killed[0]}-*")]
            killed.append(runtime)
            parent.kill()
            os.killpg(int(pid), signal.SIGKILL)  # at once: nobody is left who could remove anything
        wait_until_gone(int(pid))
        assert [*SHARED_MEMORY.glob(f"{runtime}-*")], "it is there until the next server starts"
    for region in SHARED_MEMORY.glob(f"{killed[1]}-*"):
        region.unlink()


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", None),
        ('I1122 08:05:06.092046 5251 server.cc:1] "hello"\nShared Memory Growth Byte Size: 1048576', None),
        (
            "E1122 08:05:06.092046 5251 model.cc:4] \"failed to load 'a': Internal: boom\\n\\nAt:\\n  x\"\n"
            'E1122 08:05:06.092046 5251 tritonserver.cc:2607] "Internal: failed to load all models"\n'
            'I1122 08:05:06.092046 5251 server.cc:1] "bye"\n',
            "failed to load 'a': Internal: boom",
        ),
        (
            'E1122 08:05:06.089397 5251 server.cc:241] "CudaDriverHelper has not been initialized."\n'
            "tritonserver: error while loading shared libraries: libz.so.1: cannot open\n",
            "tritonserver: error while loading shared libraries: libz.so.1: cannot open",
        ),
        (
            'E1122 08:05:06.089397 5251 model.cc:4] "Poll failed"\n'
            "terminate called after throwing an instance of 'std::invalid_argument'\n"
            "  what():  stol\n",
            "what():  stol",
        ),
        ("| table | error |\n+-------+-------+\nSignal (15) received.\n", None),
    ],
)
def test_the_last_error_that_matters_is_found(log: str, cause: str | None) -> None:
    assert last_error(log) == cause

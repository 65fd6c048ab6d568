"""A repository in an object store: a real S3 server on loopback, many publishers, a killed one, and a real Triton."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from tritonclient.grpc import InferenceServerClient, InferInput
from werkzeug.serving import make_server

from semia import serving
from semia.core.errors import InputError
from semia.core.palette import Palette
from semia.serving import ObjectRepository, PublishError, RepositoryError, ServerOptions, ServingSettings, mirror
from semia.serving.repository import object_store
from semia.serving.repository.object_store import pinned_version
from semia.serving.triton.embedded import locate_embedded_triton
from semia.serving.triton.options import flags, server_arguments
from tests.conftest import TINY_PALETTE

BUCKET = "pictures"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server."""
    application = DomainDispatcherApplication(create_backend_app)
    with _running(application) as url:
        yield url


@pytest.fixture(scope="module")
def careless_s3() -> Iterator[str]:
    """The address of one that ignores conditions, as older ones do."""
    application = DomainDispatcherApplication(create_backend_app)

    def ignore_conditions(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        for header in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
            environment.pop(header, None)
        answer: Iterable[bytes] = application(environment, start)
        return answer

    with _running(ignore_conditions) as url:
        yield url


class _running:  # noqa: N801 - used as a function
    def __init__(self, application: Application) -> None:
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.port}"

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def buckets(s3: str) -> Any:
    """The S3 server's buckets as a file system."""
    return _file_system(s3)


@pytest.fixture
def store(s3: str, buckets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The S3 server with an empty bucket; the environment leads to it, and to no other."""
    _lead_to(s3, monkeypatch, tmp_path)
    if buckets.exists(BUCKET):
        buckets.rm(BUCKET, recursive=True)
    buckets.mkdir(BUCKET)
    return buckets


def _file_system(url: str) -> Any:
    return fsspec.filesystem(
        "s3",
        endpoint_url=url,
        key="key",
        secret="secret",  # noqa: S106 - any will do
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _lead_to(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "XDG_CACHE_HOME": str(tmp_path / "caches"),
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def repository(store: Any) -> ObjectRepository:
    return ObjectRepository(f"s3://{BUCKET}/live")


@pytest.fixture
def repainted(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """A bundle like `tiny_bundle` that paints in other colors."""
    return make_bundle(
        tmp_path / "repainted", palette=Palette(((1, 2, 3), (40, 50, 60), (200, 0, 7)), TINY_PALETTE.names)
    )


def keys(store: Any) -> set[str]:
    return {key.removeprefix(f"{BUCKET}/live/") for key in store.find(BUCKET)}


def pinned(store: Any) -> int | None:
    return pinned_version(store.cat_file(f"{BUCKET}/live/tiny/config.pbtxt").decode())


def test_a_published_model_is_tritons_layout_and_its_configuration_names_the_version(
    store: Any, repository: ObjectRepository, tiny_bundle: Path, repainted: Path
) -> None:
    first = repository.publish(tiny_bundle)
    assert (first.version, first.serving, first.exclusive) == (1, 1, True)
    assert first.url == f"s3://{BUCKET}/live/tiny/1"
    assert keys(store) == {"tiny/config.pbtxt", "tiny/1/model.onnx", "tiny/1/model_card.json"}
    assert store.cat_file(f"{BUCKET}/live/tiny/1/model.onnx") == (tiny_bundle / "model.onnx").read_bytes()
    assert store.cat_file(f"{BUCKET}/live/tiny/config.pbtxt").startswith(b"# Generated by `semia publish`")
    assert repository.publish(repainted).version == 2
    assert pinned(store) == 2
    (listed,) = repository.list_models()
    assert (listed.name, listed.versions, listed.problem) == ("tiny", (1, 2), None)
    assert listed.card is not None
    assert listed.card.palette[0] == "#010203"


def test_a_model_is_run_as_before_unless_it_is_said_how(repository: ObjectRepository, tiny_bundle: Path) -> None:
    assert repository.present_settings("tiny") == ServingSettings()
    settings = ServingSettings(threads=1, queue_size=5)
    repository.publish(tiny_bundle, settings=settings)
    repository.publish(tiny_bundle)
    assert repository.present_settings("tiny") == settings


def test_the_configuration_is_written_last(
    repository: ObjectRepository, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    store = repository._store
    for name in ("pipe_file", "put_file"):
        write = getattr(store, name)

        def record(first: Any, second: Any, _write: Any = write, _put: bool = name == "put_file", **more: Any) -> None:
            _write(first, second, **more)
            written.append(str(second if _put else first))

        monkeypatch.setattr(store, name, record)
    repository.publish(tiny_bundle)
    order = [key.removeprefix(f"{BUCKET}/live/tiny/") for key in written]
    assert order == ["1/model_card.json", "1/model.onnx", "config.pbtxt"]


KILLED = """
import os, signal, sys
from pathlib import Path
from semia.serving import ObjectRepository
ObjectRepository._replace_config = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
ObjectRepository(sys.argv[1]).publish(Path(sys.argv[2]))
"""


def test_a_killed_publisher_leaves_what_was_served_and_the_next_one_clears_up(
    store: Any,
    repository: ObjectRepository,
    tiny_bundle: Path,
    repainted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.publish(tiny_bundle)
    killed = subprocess.run([sys.executable, "-c", KILLED, repository.url, str(repainted)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "tiny/2/model.onnx" in keys(store)
    (listed,) = repository.list_models()
    assert (listed.versions, listed.problem) == ((1,), None)
    copy, problems = mirror(repository, tmp_path / "cache")
    assert problems == {}
    assert [path.name for path in (copy / "tiny").iterdir() if path.is_dir()] == ["1"]

    store.rm_file(f"{BUCKET}/live/tiny/2/model.onnx")  # as if it had been killed a moment earlier
    assert repository.publish(repainted).version == 3
    assert "tiny/2/model_card.json" in keys(store), "it may be a living publisher's"
    monkeypatch.setattr(object_store, "ABANDONED_AFTER", timedelta(seconds=-1))
    assert repository.publish(repainted).version == 4
    assert not any(key.startswith("tiny/2/") for key in keys(store))
    assert {"tiny/1/model.onnx", "tiny/3/model.onnx", "tiny/4/model.onnx"} <= keys(store)
    assert pinned(store) == 4


def test_publishers_at_once_get_a_version_each_and_the_newest_is_served(
    store: Any, repository: ObjectRepository, tiny_bundle: Path
) -> None:
    with ThreadPoolExecutor(3) as pool:
        published = [*pool.map(lambda _: ObjectRepository(repository.url).publish(tiny_bundle), range(3))]
    assert sorted(stored.version for stored in published) == [*range(1, 4)]
    assert pinned(store) == 3
    (listed,) = repository.list_models()
    assert (listed.versions, listed.problem) == (tuple(range(1, 4)), None)


def test_a_store_that_ignores_conditions_is_told_apart(
    careless_s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> None:
    _lead_to(careless_s3, monkeypatch, tmp_path)
    _file_system(careless_s3).mkdirs(BUCKET, exist_ok=True)  # moto's servers have their buckets in common
    assert not ObjectRepository(f"s3://{BUCKET}").publish(tiny_bundle).exclusive


def test_what_cannot_be_a_repository_is_refused() -> None:
    for url in ("gs://bucket", "s3://", "s3:///prefix", "s3://UPPER/x", "s3://bucket/../x", "s3://bucket/a//b"):
        with pytest.raises(InputError, match="is not a repository in an object store"):
            ObjectRepository(url)


def test_a_missing_bucket_missing_credentials_and_a_silent_store_are_one_line_each(
    store: Any, tiny_bundle: Path, free_ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PublishError, match=r"cannot publish 'tiny': .*s3://nowhere/x.*bucket"):
        ObjectRepository("s3://nowhere/x").publish(tiny_bundle)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports[0]}")
    with pytest.raises(RepositoryError, match=r"does not answer: .*127\.0\.0\.1"):
        ObjectRepository(f"s3://{BUCKET}/live").list_models()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RepositoryError, match="no credentials for s3://pictures/live: set AWS_ACCESS_KEY_ID"):
        ObjectRepository(f"s3://{BUCKET}/live").list_models()


def test_the_copy_takes_only_what_its_card_vouches_for(
    store: Any, repository: ObjectRepository, tiny_bundle: Path, repainted: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    repository.publish(tiny_bundle)
    repository.publish(tiny_bundle, name="other")
    copy, problems = mirror(repository, cache)
    assert (problems, sorted(path.name for path in copy.iterdir())) == ({}, ["other", "tiny"])
    (copy / "tiny" / "1" / "model.onnx").write_bytes(b"a disk's mistake")
    repository.publish(repainted, name="other")
    store.pipe_file(f"{BUCKET}/live/other/2/model.onnx", b"somebody's mistake")
    store.pipe_file(f"{BUCKET}/live/../escape/config.pbtxt", b"")
    copy, problems = mirror(repository, cache)
    assert (copy / "tiny" / "1" / "model.onnx").read_bytes() == (tiny_bundle / "model.onnx").read_bytes()
    assert [*problems] == ["other"]
    assert "other/2/model.onnx is not what was published" in problems["other"]
    assert (copy / "other" / "1" / "model.onnx").exists(), "the last good version stays"
    (copy / ".publish.lock").touch()  # somebody published into the copy
    store.rm(f"{BUCKET}/live/tiny", recursive=True)
    copy, _ = mirror(repository, cache)
    assert {path.name for path in copy.iterdir() if path.is_dir()} == {"other"}
    assert {path.name for path in cache.iterdir()} == {".lock", "model_repository"}


def test_a_triton_that_reads_the_store_itself_sees_whole_versions_alone(
    s3: str,
    repository: ObjectRepository,
    tiny_bundle: Path,
    repainted: Path,
    free_ports: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedded_triton: None,
) -> None:
    repository.publish(tiny_bundle)
    with monkeypatch.context() as killed:
        killed.setattr(ObjectRepository, "_replace_config", lambda *_: 1)
        repository.publish(repainted)  # as far as a killed publisher gets
    location = repository.url.replace("s3://", f"s3://{s3}/")  # Triton's spelling of a store of one's own
    triton = locate_embedded_triton().assemble(tmp_path / "runtime", tmp_path)
    arguments = [argument for argument in triton.arguments if not argument.startswith("--model-repository")]
    options = ServerOptions(grpc_port=free_ports[0], metrics_port=free_ports[1])
    command = [str(triton.program), f"--model-repository={location}", *arguments, *flags(server_arguments(options))]
    url = f"127.0.0.1:{free_ports[0]}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=triton.environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while f":{free_ports[0]}" not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert serving.model_states(url)["tiny"].version == 1
        # A store's times are whole seconds, and Triton reads anew only what has a later one.
        time.sleep(1.1)
        repository.publish(repainted)
        assert serving.load_model(url, "tiny") == 3
    finally:
        process.terminate()
        process.wait(30)


def test_the_command_publishes_to_a_store_and_serves_from_it(
    repository: ObjectRepository, tiny_bundle: Path, repainted: Path, free_ports: list[int], embedded_triton: None
) -> None:
    semia = [sys.executable, "-m", "semia"]
    location = ["--repository", repository.url]
    published = subprocess.run([*semia, "publish", tiny_bundle, *location], capture_output=True, text=True, check=True)
    assert published.stdout.splitlines()[0] == f"published: {repository.url}/tiny/1 (model tiny, version 1)"
    ports = zip(("--grpc-port", "--metrics-port"), map(str, free_ports), strict=True)
    command = [*semia, "serve", *location, *(word for pair in ports for word in pair)]
    url = f"127.0.0.1:{free_ports[0]}"
    ids = np.arange(48 * 64, dtype=np.uint8).reshape(1, 48, 64) % 3
    tensor = InferInput("target_labels", ids.shape, "UINT8")
    tensor.set_data_from_numpy(ids)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, InferenceServerClient(url) as client:
        assert server.stdout is not None
        try:
            while (line := server.stdout.readline()) and not line.startswith("serving on"):
                pass
            picture = client.infer("tiny", [tensor], client_timeout=20).as_numpy("image")
            assert (picture == np.array(((255, 0, 0), (0, 255, 0), (0, 0, 255)), np.uint8)[ids]).all()
            repository.publish(repainted)
            assert serving.load_model(url, "tiny") == 1, "the copy knows nothing of it yet"
            mirror(repository, serving.cache_folder(repository.url))
            assert serving.load_model(url, "tiny") == 2
            picture = client.infer("tiny", [tensor], client_timeout=20).as_numpy("image")
            assert (picture == np.array(((1, 2, 3), (40, 50, 60), (200, 0, 7)), np.uint8)[ids]).all()
        finally:
            server.terminate()
            server.wait(60)
    assert server.returncode == 0

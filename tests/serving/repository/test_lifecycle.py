"""Versions come into service, go back and go away under callers that notice nothing else."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from semia import serving
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME
from semia.core.palette import Palette
from semia.serving import ServingSettings, TritonServer
from semia.serving.model_config import settings_from_config
from semia.serving.repository.transaction import JOURNAL_FILE, LOCK_FILE, recover

MakeBundle = Callable[..., Path]

PALETTES = [
    Palette(tuple((40 * version, id_, 200 - id_) for id_ in range(3)), ("roof", "lawn", "sky")) for version in range(5)
]
"""What the pictures of each bundle are painted with."""

IDS = np.random.default_rng(0).integers(0, 3, (1, 48, 64), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundles(make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("versions")
    return [make_bundle(folder / str(number), name="scene", palette=each) for number, each in enumerate(PALETTES)]


@dataclass(frozen=True)
class Served:
    """A model of a test's own on the server that all share."""

    triton: TritonServer
    name: str

    @property
    def repository(self) -> Path:
        return self.triton.repository

    @property
    def url(self) -> str:
        return self.triton.grpc_url

    @property
    def folder(self) -> Path:
        return self.repository / self.name

    def publish(self, bundle: Path) -> int:
        return serving.publish(bundle, self.repository, name=self.name).version

    def put(
        self, bundle: Path, *, keep: int = 3, settings: ServingSettings | None = None
    ) -> tuple[int, tuple[int, ...]]:
        """Publish into service; the version, and what was pruned."""
        update = serving.publish_and_load(
            bundle, self.repository, self.url, name=self.name, keep=keep, settings=settings
        )
        return update.published.version, update.pruned

    def draw(self) -> tuple[int, NDArray[np.uint8]]:
        """The version that draws, and a picture."""
        tensor = InferInput(INPUT_NAME, IDS.shape, "UINT8")
        tensor.set_data_from_numpy(IDS)
        with InferenceServerClient(self.url) as client:
            answer = client.infer(self.name, [tensor], client_timeout=20)
        return int(answer.get_response().model_version), answer.as_numpy(OUTPUT_NAME)

    def draws(self, version: int, bundle: int) -> None:
        """Make sure that a version draws the pictures of a bundle."""
        drawn, picture = self.draw()
        assert drawn == version
        np.testing.assert_array_equal(picture, PALETTES[bundle].array[IDS])

    def look(self) -> serving.ModelOverview:
        (model,) = [each for each in serving.overview(self.repository, self.url).models if each.name == self.name]
        return model


@pytest.fixture
def scene(triton: TritonServer, request: pytest.FixtureRequest) -> Iterator[Served]:
    """It is gone afterwards."""
    served = Served(triton, f"scene-{zlib.crc32(request.node.name.encode())}")  # a name that the server has never seen
    yield served
    if served.folder.exists():
        serving.remove(triton.repository, served.name, url=triton.grpc_url)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_graph(bundle: Path, folder: Path, model: bytes) -> Path:
    """A copy of a bundle with another graph, its card saying so."""
    shutil.copytree(bundle, folder)
    (folder / MODEL_FILE).write_bytes(model)
    before, after = (sha256_of_file(each / MODEL_FILE) for each in (bundle, folder))
    (folder / CARD_FILE).write_text((folder / CARD_FILE).read_text().replace(before, after))
    return folder


# Into service


def test_callers_notice_new_versions_and_nothing_else(scene: Served, bundles: list[Path]) -> None:
    scene.put(bundles[0])
    stop = threading.Event()
    seen: list[tuple[int, NDArray[np.uint8]]] = []

    def call() -> None:
        while not stop.is_set():
            seen.append(scene.draw())

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(call) for _ in range(3)]
        try:
            updates = [scene.put(bundles[number], keep=2) for number in (1, 2)]
        finally:
            stop.set()
        for each in calls:
            each.result()
    assert updates == [(2, ()), (3, (1,))]
    assert {version for version, _ in seen} >= {1, 2}
    for version, picture in seen:
        np.testing.assert_array_equal(picture, PALETTES[version - 1].array[IDS])
    scene.draws(3, bundle=2)


def test_a_version_that_cannot_be_loaded_is_taken_back(scene: Served, bundles: list[Path], tmp_path: Path) -> None:
    broken = change_graph(bundles[1], tmp_path / "broken", b"this is no graph")
    scene.put(bundles[0])
    before = contents(scene.repository)
    with pytest.raises(
        serving.ModelLoadError, match=r"INVALID_PROTOBUF.*; version 2 is taken back, version 1 goes on serving$"
    ):
        scene.put(broken)
    assert contents(scene.repository) == before
    scene.draws(1, bundle=0)
    seen = scene.look()
    assert (seen.versions, seen.state, seen.serving, seen.reason, seen.problem) == ((1,), "ready", 1, None, None)
    assert scene.put(bundles[2]) == (3, ()), "the number that failed is not given again"


@pytest.mark.parametrize(
    ("file", "said"),
    [("config.pbtxt", "failed to load|failed to poll"), ("2/model.onnx", "INVALID_PROTOBUF")],
    ids=["nonsense in the configuration", "half a graph"],
)
def test_what_is_spoilt_in_the_repository_does_not_reach_callers(
    file: str, said: str, scene: Served, bundles: list[Path]
) -> None:
    scene.put(bundles[0])
    scene.publish(bundles[1])
    spoilt = scene.folder / file
    spoilt.write_bytes(spoilt.read_bytes()[: spoilt.stat().st_size // 2])
    with pytest.raises(serving.ModelLoadError, match=said):
        serving.load_model(scene.url, scene.name)
    scene.draws(1, bundle=0)
    (verified,) = serving.verify(scene.repository, (scene.name,))
    assert spoilt.name in verified.problems[0]


def test_a_new_model_that_cannot_be_loaded_leaves_nothing(scene: Served, bundles: list[Path], tmp_path: Path) -> None:
    before = contents(scene.repository)
    with pytest.raises(serving.ModelLoadError, match=r"; version 1 is taken back, no version of it serves$"):
        scene.put(change_graph(bundles[1], tmp_path / "broken", b"this is no graph"))
    assert not scene.folder.exists()
    assert contents(scene.repository) == before


def test_a_version_that_draws_no_picture_is_taken_back(scene: Served, bundles: list[Path], tmp_path: Path) -> None:
    model = onnx.load(bundles[1] / MODEL_FILE)
    model.graph.node[-1].output[0] = "upright"
    model.graph.node.append(helper.make_node("Transpose", ["upright"], [OUTPUT_NAME], perm=[0, 2, 1, 3]))
    for axis in (1, 2):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    lying = change_graph(bundles[1], tmp_path / "lying", model.SerializeToString())
    scene.put(bundles[0])
    before = contents(scene.repository)
    with pytest.raises(
        serving.ModelAnswerError, match=r"uint8\[1, 64, 48, 3\].*; version 2 is taken back, version 1 goes on serving$"
    ):
        scene.put(lying)
    assert contents(scene.repository) == before
    scene.draws(1, bundle=0)


def test_publishers_at_once_take_turns(scene: Served, bundles: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        versions = [version for version, _ in pool.map(scene.put, bundles[:2])]
    assert sorted(versions) == [1, 2]
    scene.draws(2, bundle=versions.index(2))


def test_a_server_of_another_repository_is_told_apart(
    triton: TritonServer, bundles: list[Path], tmp_path: Path
) -> None:
    for _ in range(2):
        serving.publish(bundles[0], tmp_path / "elsewhere", name="tiny")
    with pytest.raises(serving.ModelLoadError, match=r"serves version 1 .* not the repository it serves; version 3"):
        serving.publish_and_load(bundles[1], tmp_path / "elsewhere", triton.grpc_url, name="tiny")
    assert serving.list_models(tmp_path / "elsewhere")[0].versions == (1, 2)


def test_nothing_is_published_for_a_server_that_is_not_there(
    bundles: list[Path], free_ports: list[int], tmp_path: Path
) -> None:
    with pytest.raises(serving.ServerUnreachableError):
        serving.publish_and_load(bundles[0], tmp_path / "repository", f"127.0.0.1:{free_ports[0]}")
    assert not (tmp_path / "repository").exists()


def test_an_update_is_run_as_the_version_before(scene: Served, bundles: list[Path]) -> None:
    settings = ServingSettings(threads=1, batching=False, queue_size=5)
    scene.put(bundles[0], settings=settings)
    scene.put(bundles[1])
    assert serving.present_settings(scene.repository, scene.name) == settings
    scene.draws(2, bundle=1)


# Back


def test_rolling_back_serves_the_older_pictures_as_a_new_version(scene: Served, bundles: list[Path]) -> None:
    scene.put(bundles[0])
    settings = ServingSettings(max_batch_size=2, threads=1, batching=False, reason="because")
    scene.put(bundles[1], settings=settings)
    done = serving.rollback(scene.repository, scene.name, url=scene.url)
    assert (done.published.version, done.repeats) == (3, 1)
    scene.draws(3, bundle=0)
    assert (scene.folder / "1" / MODEL_FILE).samefile(done.published.folder / MODEL_FILE)
    assert settings_from_config((scene.folder / "config.pbtxt").read_text()) == settings
    seen = scene.look()
    assert (seen.repeats, seen.problem, seen.serving) == ({3: 1}, None, 3)
    once = sum(path.stat().st_size for version in "12" for path in (scene.folder / version).iterdir())
    assert seen.size_bytes == once + (scene.folder / "config.pbtxt").stat().st_size
    with pytest.raises(
        serving.RepositoryError, match=r"version 3 of .* is version 1 again, the oldest: say to which of 2"
    ):
        serving.rollback(scene.repository, scene.name, url=scene.url)


def test_rolling_back_goes_further_each_time(bundles: list[Path], tmp_path: Path) -> None:
    for bundle in bundles[:3]:
        serving.publish(bundle, tmp_path / "repository")
    repeated = [serving.rollback(tmp_path / "repository", "scene", to=to).repeats for to in (None, None, 3)]
    assert repeated == [2, 1, 3]
    (model,) = serving.list_models(tmp_path / "repository")
    assert model.versions == (1, 2, 3, 4, 5, 6)
    assert model.problem is None
    assert model.card is not None
    assert model.card.palette == PALETTES[2].hex_codes
    assert [each.problems for each in serving.verify(tmp_path / "repository")] == [()]


def test_rolling_back_to_other_class_ids_is_refused_unless_told(make_bundle: MakeBundle, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    palette = PALETTES[0]
    swapped = Palette(palette.colors[::-1], palette.names[::-1])
    for number, each in enumerate((palette, swapped)):
        bundle = make_bundle(tmp_path / str(number), name="scene", palette=each)
        serving.publish(bundle, repository, change_classes=True)
    before = contents(repository)
    with pytest.raises(
        serving.ClassesChangedError,
        match=r"'scene' would change their meaning: 0 was .* sky and would be .* roof, and 1 more; .*"
        r"other pictures: roll back with --change-classes if that is meant$",
    ):
        serving.rollback(repository, "scene")
    assert contents(repository) == before
    assert serving.rollback(repository, "scene", change_classes=True).repeats == 1
    (model,) = serving.list_models(repository)
    assert model.card is not None
    assert model.card.palette == palette.hex_codes


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("nonesuch", None, "has no model 'nonesuch'; it has scene"),
        ("../scene", None, "cannot name a model"),
        ("scene", 7, "'scene' has no version 7; it has 1, 2"),
        ("scene", 2, "version 2 of 'scene' is the newest already"),
        ("scene", 1, "1/model.onnx is not the graph its card describes"),
    ],
)
def test_what_cannot_be_rolled_back_is_said_and_changes_nothing(
    bundles: list[Path], tmp_path: Path, name: str, to: int | None, message: str
) -> None:
    repository = tmp_path / "repository"
    for bundle in bundles[:2]:
        serving.publish(bundle, repository)
    (repository / "scene" / "1" / "model.onnx").write_bytes(b"rotten")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        serving.rollback(repository, name, to=to)
    assert contents(tmp_path) == before


# Away


def test_pruning_never_takes_the_version_that_serves(scene: Served, bundles: list[Path]) -> None:
    scene.put(bundles[0])
    assert [scene.publish(bundle) for bundle in bundles[1:4]] == [2, 3, 4]
    assert serving.prune(scene.repository, scene.name, keep=1, url=scene.url) == (2, 3)
    assert {path.name for path in scene.folder.iterdir()} == {"config.pbtxt", "1", "4"}
    scene.draws(1, bundle=0)
    with pytest.raises(InputError, match="at least 1 version must be kept, not 0"):
        serving.prune(scene.repository, scene.name, keep=0)
    assert serving.prune(scene.repository, scene.name, keep=1) == (1,)


def test_nothing_is_pruned_while_the_newest_cannot_be_loaded(
    scene: Served, bundles: list[Path], tmp_path: Path
) -> None:
    scene.put(bundles[0])
    scene.publish(change_graph(bundles[1], tmp_path / "broken", b"no graph"))
    with pytest.raises(serving.ModelLoadError):
        serving.load_model(scene.url, scene.name)
    with pytest.raises(serving.ModelLoadError, match=r"nothing of 'scene-\d+' is pruned.* cannot load its version 2: "):
        serving.prune(scene.repository, scene.name, keep=1, url=scene.url)
    seen = scene.look()
    assert (seen.versions, seen.state, seen.serving) == ((1, 2), "ready", 1)
    assert (seen.reason or "").startswith("version 2: InvalidProtobuf")


def test_a_removed_model_is_unloaded_and_gone(scene: Served, bundles: list[Path]) -> None:
    scene.put(bundles[0])
    before = {path.name for path in scene.repository.parent.iterdir()}
    serving.remove(scene.repository, scene.name, url=scene.url)
    with pytest.raises(InferenceServerException, match="no available versions"):
        scene.draw()
    assert not scene.folder.exists()
    assert {path.name for path in scene.repository.parent.iterdir()} == before
    with pytest.raises(serving.RepositoryError, match="has no model 'scene-"):
        serving.remove(scene.repository, scene.name, url=scene.url)


def test_a_repository_that_cannot_be_written_is_one_line(bundles: list[Path], tmp_path: Path) -> None:
    """For a test that root runs too, the lock is what cannot be opened for writing."""
    repository = tmp_path / "repository"
    for bundle in bundles[:2]:
        serving.publish(bundle, repository)
    (repository / LOCK_FILE).unlink()
    (repository / LOCK_FILE).mkdir()
    with pytest.raises(serving.PublishError, match="cannot roll back 'scene' in"):
        serving.rollback(repository, "scene")
    with pytest.raises(serving.PublishError, match="cannot prune 'scene' in"):
        serving.prune(repository, "scene", keep=1)
    with pytest.raises(serving.PublishError, match="cannot remove 'scene' from"):
        serving.remove(repository, "scene")
    assert serving.list_models(repository)[0].versions == (1, 2)


# Killed


def kill_at(place: str, change: str) -> None:
    """Make a change in a process that is killed when it gets to a place; both are Python."""
    script = f"""
import os, pathlib, signal
from pathlib import Path
from semia import serving
from semia.serving.repository import lifecycle
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
{place}
serving.{change}
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(serving.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -signal.SIGKILL


BEFORE_THE_CONFIG = """
replace = Path.replace
Path.replace = lambda self, target: kill() if target.name == "config.pbtxt" else replace(self, target)
"""


@pytest.mark.parametrize(
    "place",
    ["lifecycle.load_model = kill", "lifecycle.finish = kill"],
    ids=["before it is loaded", "after it has drawn"],
)
def test_the_version_of_a_killed_publisher_is_reported_and_taken_back(
    place: str, scene: Served, bundles: list[Path]
) -> None:
    scene.put(bundles[0])
    before = contents(scene.repository)
    arguments = f"Path({str(bundles[1])!r}), Path({str(scene.repository)!r}), {scene.url!r}, name={scene.name!r}"
    kill_at(place, f"publish_and_load({arguments})")
    assert (scene.folder / "2" / MODEL_FILE).is_file()

    said = "publishing version 2 was interrupted"
    assert said in (scene.look().problem or "")
    assert said in serving.verify(scene.repository, (scene.name,))[0].problems[0]
    taken_back = recover(scene.repository)
    assert taken_back is not None
    assert (taken_back.model, taken_back.version) == (scene.name, 2)
    assert contents(scene.repository) == before
    version, _ = scene.put(bundles[2])
    assert version == (2 if "load_model" in place else 3), "a number that the server has used is not given again"
    scene.draws(version, bundle=2)


def test_the_next_writer_mends_what_one_killed_between_the_renames_left(bundles: list[Path], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    serving.publish(bundles[0], repository)
    serving.publish(bundles[1], repository)
    kill_at(BEFORE_THE_CONFIG, f"publish(Path({str(bundles[2])!r}), Path({str(repository)!r}))")
    assert serving.list_models(repository)[0].versions == (1, 2, 3)
    assert "publishing version 3 was interrupted" in serving.verify(repository)[0].problems[0]
    assert serving.rollback(repository, "scene").published.version == 3
    assert not (repository / JOURNAL_FILE).exists()
    assert [each.problems for each in serving.verify(repository)] == [()]


def test_a_server_mends_its_repository_before_it_starts(
    bundles: list[Path], tmp_path: Path, server_options: Callable[[], serving.ServerOptions]
) -> None:
    repository = tmp_path / "repository"
    serving.publish(bundles[0], repository)
    before = contents(repository)
    kill_at(BEFORE_THE_CONFIG, f"publish(Path({str(bundles[1])!r}), Path({str(repository)!r}))")
    options = server_options()
    with socket.create_server(("127.0.0.1", options.grpc_port)), pytest.raises(serving.PortTakenError):
        TritonServer(repository, options).start()  # it need not come further
    assert contents(repository) == before


@pytest.mark.parametrize("change", ["prune(REPOSITORY, 'scene', keep=1)", "remove(REPOSITORY, 'scene')"])
def test_a_killed_deletion_is_done_or_not_begun(change: str, bundles: list[Path], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for bundle in bundles[:3]:
        serving.publish(bundle, repository)
    kill_at("import shutil; shutil.rmtree = kill", change.replace("REPOSITORY", f"Path({str(repository)!r})"))
    assert [(model.versions, model.problem) for model in serving.list_models(repository)] == (
        [((3,), None)] if change.startswith("prune") else []
    )
    assert [*tmp_path.glob(".*.partial")], "it was renamed away, not yet deleted"
    serving.publish(bundles[0], repository)
    assert not [*tmp_path.glob(".*.partial")]

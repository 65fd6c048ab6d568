"""Publishing is whole or not at all, whoever interferes."""

import dataclasses
import functools
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.model_card import EngineCard, ModelCard
from semia.core.palette import Palette
from semia.serving import (
    Accelerator,
    BundleError,
    ClassesChangedError,
    PublishError,
    RepositoryError,
    ServingSettings,
    list_models,
    present_settings,
    publish,
    verify,
)
from semia.serving.repository.transaction import LOCK_FILE, recover
from tests.conftest import TINY_PALETTE, MakeBundle, SmallDisk


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


def files_below(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE)
    return {str(path.relative_to(folder)) for path in paths}


def read_config(repository: Path, name: str = "tiny") -> pb.ModelConfig:
    return text_format.Parse((repository / name / "config.pbtxt").read_text(), pb.ModelConfig())


def test_a_bundle_or_a_model_is_no_repository(tiny_bundle: Path, repository: Path) -> None:
    published = publish(tiny_bundle, repository)
    for place, kind in ((tiny_bundle, "bundle"), (published.folder, "bundle"), (published.folder.parent, "model")):
        before = files_below(place)
        for misuse in (functools.partial(publish, tiny_bundle), list_models, verify):
            with pytest.raises(RepositoryError, match=f"is a {kind}, not a model repository"):
                misuse(place)
        assert files_below(place) == before


def test_a_published_model_is_tritons_layout_and_nothing_else(tiny_bundle: Path, repository: Path) -> None:
    model = publish(tiny_bundle, repository)
    assert (model.name, model.version, model.folder) == ("tiny", 1, repository / "tiny" / "1")
    assert files_below(repository.parent) == {
        f"model_repository/tiny/{file}" for file in ("config.pbtxt", "1/model.onnx", "1/model_card.json")
    }
    assert (model.folder / "model.onnx").read_bytes() == (tiny_bundle / "model.onnx").read_bytes()


def test_others_may_read_a_published_model(tiny_bundle: Path, repository: Path) -> None:
    model = publish(tiny_bundle, repository)
    for path in (repository, repository / "tiny", model.folder):
        assert path.stat().st_mode & 0o055 == 0o055, path


def test_publishing_again_adds_the_next_version_and_its_configuration(
    tiny_bundle: Path, repository: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    publish(tiny_bundle, repository)
    (repository / "tiny" / "007").mkdir()  # Triton ignores it, so do we
    other = make_bundle(tmp_path / "other", palette=Palette(((1, 2, 3), (200, 0, 0))), height=10, width=20)
    model = publish(other, repository, settings=ServingSettings(threads=1), change_classes=True)
    assert model.version == 2
    config = read_config(repository)
    assert [*config.input[0].dims] == [10, 20]
    card_sha256 = sha256_of_file(repository / "tiny" / "2" / "model_card.json")
    assert config.parameters["model_card_sha256"].string_value == card_sha256
    (listed,) = list_models(repository)
    assert listed.versions == (1, 2)
    assert listed.problem is None
    assert listed.card is not None
    assert listed.card.palette == ("#010203", "#C80000")


ROOF, LAWN, SKY = TINY_PALETTE.colors
POND = (0, 90, 90)


@pytest.mark.parametrize(
    ("palette", "change"),
    [
        (
            Palette((LAWN, ROOF, SKY), ("lawn", "roof", "sky")),
            "0 was #FF0000 roof and would be #00FF00 lawn, and 1 more",
        ),
        (Palette((LAWN, ROOF, SKY)), "0 was #FF0000 roof and would be #00FF00, and 1 more"),
        (
            Palette((ROOF, LAWN, SKY), ("lawn", "roof", "sky")),
            "0 was #FF0000 roof and would be #FF0000 lawn, and 1 more",
        ),
        (Palette((POND, ROOF, LAWN, SKY)), "0 was #FF0000 roof and would be #005A5A, and 2 more"),
        (Palette((ROOF, SKY)), "1 was #00FF00 lawn and would be #0000FF, and 1 more"),
        (Palette((ROOF, LAWN, POND)), "2 was #0000FF sky and would be #005A5A"),
    ],
    ids=["swapped", "swapped, unnamed", "names swapped", "one more in front", "one less", "another"],
)
def test_a_version_whose_ids_mean_other_classes_is_refused(
    palette: Palette, change: str, tiny_bundle: Path, repository: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    publish(tiny_bundle, repository)
    touched_up = make_bundle(tmp_path / "touched-up", palette=palette)
    with pytest.raises(ClassesChangedError, match=f"'tiny' would change their meaning: {change}; .*--change-classes"):
        publish(touched_up, repository)
    assert [model.versions for model in list_models(repository)] == [(1,)]
    assert publish(touched_up, repository, change_classes=True).version == 2


@pytest.mark.parametrize(
    "palette",
    [
        Palette((ROOF, LAWN, SKY)),
        Palette((ROOF, LAWN, SKY), ("tiles", "meadow", "sky")),
        Palette(((250, 2, 0), (1, 251, 0), (3, 0, 255))),
        Palette((POND, LAWN, SKY), TINY_PALETTE.names),
        Palette((*TINY_PALETTE.colors, POND), (*TINY_PALETTE.names, "pond")),
        Palette((ROOF, LAWN)),
    ],
    ids=["unnamed", "renamed", "compressed", "recolored", "one more behind", "the last one gone"],
)
def test_classes_may_be_renamed_recolored_and_added(
    palette: Palette, tiny_bundle: Path, repository: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    publish(tiny_bundle, repository)
    assert publish(make_bundle(tmp_path / "new", palette=palette), repository).version == 2


def test_a_model_is_run_as_before_unless_it_is_said_how(
    tiny_bundle: Path, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ServingSettings(instances=2, threads=1, queue_size=5, reason="measured")
    publish(tiny_bundle, repository, settings=settings)
    publish(tiny_bundle, repository)
    assert present_settings(repository, "tiny") == settings
    publish(tiny_bundle, repository, settings=ServingSettings())
    assert present_settings(repository, "tiny") == ServingSettings()
    assert present_settings(repository, "another") == ServingSettings()
    assert not caplog.messages


def test_a_configuration_that_is_not_ours_is_written_anew(
    tiny_bundle: Path, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tiny_bundle, repository, settings=ServingSettings(threads=1))
    config = repository / "tiny" / "config.pbtxt"
    config.write_text("max_batch_size: lots of {")
    publish(tiny_bundle, repository)
    assert present_settings(repository, "tiny") == ServingSettings()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "config.pbtxt says nothing of how the model is to be run, so the defaults hold: " in caplog.text


def add_plan(bundle: Path, content: bytes = b"plan", max_batch: int = 8) -> None:
    """What a bundle looks like once it has an engine."""
    (bundle / "model.plan").write_bytes(content)
    card = ModelCard.read(bundle / "model_card.json")
    engine = EngineCard(
        "10.16.1", "NVIDIA H200", "9.0", "fp32", 1, max_batch, sha256_of_file(bundle / "model.plan"), ()
    )
    dataclasses.replace(card, engine=engine).write(bundle / "model_card.json")


def test_a_bundles_engine_is_what_is_served_unless_its_graph_is_to_be_accelerated(
    tiny_bundle: Path, repository: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    add_plan(bundle)
    publish(bundle, repository)
    publish(bundle, repository, name="cuda", settings=ServingSettings(accelerator=Accelerator.CUDA))
    assert files_below(repository) == {
        *("tiny/config.pbtxt", "tiny/1/model.plan", "tiny/1/model_card.json"),
        *("cuda/config.pbtxt", "cuda/1/model.onnx", "cuda/1/model_card.json"),
    }
    assert read_config(repository).default_model_filename == "model.plan"
    assert [model.problem for model in list_models(repository)] == [None, None]
    (repository / "tiny" / "1" / "model.plan").unlink()
    assert "has no model.plan" in (list_models(repository)[1].problem or "")


def test_an_engine_that_is_not_its_cards_is_refused(tiny_bundle: Path, repository: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    add_plan(bundle)
    (bundle / "model.plan").write_bytes(b"another plan")
    with pytest.raises(BundleError, match=r"model\.plan is not the engine its card describes"):
        publish(bundle, repository)
    (bundle / "model.plan").unlink()
    with pytest.raises(BundleError, match=r"is not whole: it has no model\.plan"):
        publish(bundle, repository)
    assert not repository.exists()


def test_versions_are_counted_as_numbers(tiny_bundle: Path, repository: Path) -> None:
    publish(tiny_bundle, repository)
    (repository / "tiny" / "1").rename(repository / "tiny" / "9")
    assert [publish(tiny_bundle, repository).version for _ in range(2)] == [10, 11]


def test_another_name_is_the_served_name(tiny_bundle: Path, repository: Path) -> None:
    assert publish(tiny_bundle, repository, name="my-scene").folder == repository / "my-scene" / "1"
    assert read_config(repository, "my-scene").name == "my-scene"


def test_a_name_that_is_a_path_is_refused(tiny_bundle: Path, repository: Path) -> None:
    with pytest.raises(InputError, match="cannot name a model"):
        publish(tiny_bundle, repository, name="../elsewhere")
    assert not repository.exists()


def test_a_corrupted_graph_is_refused(tiny_bundle: Path, repository: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="not the graph its card describes") as caught:
        publish(bundle, repository)
    assert caught.value.exit_code == 2
    assert [*repository.parent.iterdir()] == [bundle]


def test_a_refused_bundle_takes_no_others_repository_away(tiny_bundle: Path, repository: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_bundle, tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"x")

    def refused(bundle: Path) -> bool:
        try:
            publish(bundle, repository)
        except BundleError:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(refused, [broken, broken, tiny_bundle, broken] * 4)] == [True, True, False, True] * 4
    assert list_models(repository)[0].versions == (1, 2, 3, 4)


@pytest.mark.parametrize("missing", ["model.onnx", "model_card.json"])
def test_an_incomplete_bundle_is_refused(tiny_bundle: Path, repository: Path, tmp_path: Path, missing: str) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / missing).unlink()
    with pytest.raises(BundleError, match=f"not a bundle.*{missing}"):
        publish(bundle, repository)


def test_a_full_disk_leaves_the_repository_as_it_was(tiny_bundle: Path, small_disk: SmallDisk) -> None:
    """Wherever in publishing the disk is full: each time it has room for a page more."""
    repository = small_disk.path / "model_repository"
    publish(tiny_bundle, repository)
    before = {name: (repository / name).read_bytes() for name in files_below(repository)}
    failures = list[PublishError]()
    while len(list_models(repository)[0].versions) == 1:
        small_disk.leave(len(failures) * mmap.PAGESIZE)
        try:
            publish(tiny_bundle, repository)
        except PublishError as error:
            failures.append(error)
            assert {name: (repository / name).read_bytes() for name in files_below(repository)} == before
            assert not [*small_disk.path.glob(".*")]
    assert len(failures) > 3
    assert all("No space left on device" in str(failure) for failure in failures)
    small_disk.empty()
    assert publish(tiny_bundle, repository).version == 3
    assert [each.problems for each in verify(repository)] == [()]


def test_a_read_only_repository_is_one_line_and_can_be_read(tiny_bundle: Path, small_disk: SmallDisk) -> None:
    repository = small_disk.path / "model_repository"
    publish(tiny_bundle, repository)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.path)], check=True)
    with pytest.raises(PublishError, match=r"cannot publish 'tiny' to .*Read-only file system"):
        publish(tiny_bundle, repository)
    assert recover(repository) is None
    assert [model.versions for model in list_models(repository)] == [(1,)]
    assert [each.problems for each in verify(repository)] == [()]


def test_a_configuration_that_cannot_be_replaced_takes_the_version_back(tiny_bundle: Path, repository: Path) -> None:
    publish(tiny_bundle, repository)
    config = repository / "tiny" / "config.pbtxt"
    config.unlink()
    (config / "in the way").mkdir(parents=True)
    with pytest.raises(PublishError, match=r"config\.pbtxt"):
        publish(tiny_bundle, repository)
    assert not (repository / "tiny" / "2").exists()


def test_a_killed_publisher_is_invisible_and_the_next_one_cleans_up(tiny_bundle: Path, repository: Path) -> None:
    """It is killed with the model staged whole, just before the rename."""
    script = f"""
import os, signal
from pathlib import Path
from semia.serving.repository import lifecycle as repository
repository.add_version = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
repository.publish(Path({str(tiny_bundle)!r}), Path({str(repository)!r}))
"""
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in repository.iterdir()] == [LOCK_FILE]
    assert [path.name for path in repository.parent.glob(".*/tiny/1/model.onnx")] == ["model.onnx"], "it had staged"
    assert publish(tiny_bundle, repository).version == 1
    assert not [*repository.parent.glob(".*")]


def test_a_repository_whose_parent_is_forbidden_stages_inside(
    tiny_bundle: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: path != repository.parent)
    stale = repository / f".{repository.name}.publish-abcd1234.partial"
    (stale / "tiny").mkdir(parents=True)
    assert list_models(repository) == []
    repository.parent.chmod(0o555)
    try:
        assert publish(tiny_bundle, repository).version == 1
        assert publish(tiny_bundle, repository).version == 2
    finally:
        repository.parent.chmod(0o755)
    assert sorted(path.name for path in repository.iterdir()) == [LOCK_FILE, "tiny"]


def test_publishers_at_once_take_a_version_each(tiny_bundle: Path, repository: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        models = [*pool.map(lambda _: publish(tiny_bundle, repository), range(8))]
    assert sorted(model.version for model in models) == [*range(1, 9)]
    assert list_models(repository)[0].versions == tuple(range(1, 9))


def test_broken_folders_are_listed_with_their_problem(tiny_bundle: Path, repository: Path) -> None:
    for name in ("good", "no-card", "no-graph", "no-config", "interrupted"):
        publish(tiny_bundle, repository, name=name)
    (repository / "no-version").mkdir()
    (repository / "README.md").write_text("not a model")
    (repository / "no-card" / "1" / "model_card.json").unlink()
    (repository / "no-graph" / "1" / "model.onnx").unlink()
    (repository / "no-config" / "config.pbtxt").write_text("input {")
    newer = shutil.copytree(repository / "interrupted" / "1", repository / "interrupted" / "2")
    card = json.loads((newer / "model_card.json").read_text())
    (newer / "model_card.json").write_text(json.dumps(card | {"iterations": 7}))
    listed = {model.name: model for model in list_models(repository)}
    problems = {name: model.problem or "" for name, model in listed.items()}
    assert problems.pop("good") == ""
    assert listed["good"].card is not None
    assert sorted(problems) == ["interrupted", "no-card", "no-config", "no-graph", "no-version"]
    assert "no model card" in problems["no-card"]
    assert "has no model.onnx" in problems["no-graph"]
    assert "has no version" in problems["no-version"]
    assert "Expected" in problems["no-config"]
    assert "does not belong to version 2: publish it again" in problems["interrupted"]


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"no such model repository: .*nowhere"):
        list_models(tmp_path / "nowhere")

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from semia.training.copying.settings import CopyingSettings
from semia.training.errors import RunError, TrainingError
from semia.training.published.generator import Generator
from semia.training.run_folder import CHECKPOINT_FILE, CONFIG_FILE, GENERATOR_FILE, Checkpoint, RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings


@pytest.fixture
def run(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> RunFolder:
    return RunFolder.create(tmp_path / "run", scene, settings, seed=3)


def test_a_run_is_opened_as_it_was_created(run: RunFolder, scene: Scene) -> None:
    opened = RunFolder.open(run.path)
    assert opened.config == run.config
    assert np.array_equal(opened.scene.labels, scene.labels)
    assert opened.iterations_done == 0
    assert not opened.finished


def test_a_checkpoint_is_read_back(run: RunFolder, settings: TrainingSettings) -> None:
    generator = Generator(settings.generator_width, settings.depth)
    run.save_checkpoint(Checkpoint(4, 2.5, {"generator": generator.state_dict()}), generator)
    checkpoint = run.load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None
    assert checkpoint.iteration == 4
    assert checkpoint.trainer["generator"].keys() == generator.state_dict().keys()
    assert checkpoint.seconds == 2.5
    assert (run.iterations_done, run.seconds_done) == (4, 2.5)
    for name, value in run.load_generator().generator.state_dict().items():
        assert torch.equal(value, generator.state_dict()[name])
    assert not list(run.path.glob("*.partial*"))


@pytest.mark.parametrize(
    ("iteration", "seconds", "counted", "by_the_clock"),
    [(5, 61.0, False, True), (6, 59.9, True, False), (1, 60.0, False, True)],
)
def test_a_run_is_finished_by_its_iterations_or_its_minutes(
    tmp_path: Path,
    scene: Scene,
    settings: TrainingSettings,
    iteration: int,
    seconds: float,
    counted: bool,
    by_the_clock: bool,
) -> None:
    generator = Generator(settings.generator_width, settings.depth)
    for minutes, expected in ((None, counted), (1.0, by_the_clock)):
        run = RunFolder.create(tmp_path / "run", scene, dataclasses.replace(settings, minutes=minutes), seed=0)
        assert not run.finished
        run.save_checkpoint(Checkpoint(iteration, seconds, {}), generator)
        assert run.finished == expected


def test_a_generator_from_before_seconds_were_noted_is_read(run: RunFolder) -> None:
    safetensors.torch.save_file({}, run.path / GENERATOR_FILE, metadata={"iterations": "6"})
    assert (run.iterations_done, run.seconds_done, run.finished) == (6, 0.0, True)


def test_a_run_without_checkpoint_cannot_be_rendered(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"has no generator\.safetensors yet"):
        run.load_generator()


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder at"):
        RunFolder.open(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', "not json"])
def test_a_broken_config_is_named(run: RunFolder, content: str) -> None:
    (run.path / CONFIG_FILE).write_text(content)
    with pytest.raises(RunError, match=r"cannot read .*config\.json"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08" * 100])
def test_a_broken_generator_is_named(run: RunFolder, content: bytes) -> None:
    (run.path / GENERATOR_FILE).write_bytes(content)
    with pytest.raises(RunError, match=r"generator\.safetensors"):
        run.load_generator()
    with pytest.raises(RunError, match="not a generator of ours"):
        _ = run.iterations_done


def test_a_truncated_checkpoint_is_named(run: RunFolder) -> None:
    generator = Generator(4, 3)
    run.save_checkpoint(Checkpoint(4, 2.5, {"generator": generator.state_dict()}), generator)
    path = run.path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match="start anew with --overwrite"):
        run.load_checkpoint(torch.device("cpu"))


@pytest.mark.parametrize("content", [{"iteration": 4, "generator": {}}, {"iteration": 4}, [4]])
def test_a_checkpoint_of_another_version_is_refused(run: RunFolder, content: object) -> None:
    torch.save(content, run.path / CHECKPOINT_FILE)
    with pytest.raises(RunError, match="another version of semia wrote it; start anew with --overwrite"):
        run.load_checkpoint(torch.device("cpu"))


def test_a_config_from_before_there_were_two_generators_and_minutes_is_read(run: RunFolder) -> None:
    content = json.loads((run.path / CONFIG_FILE).read_text())
    for field in ("generator", "minutes"):
        del content["settings"][field]
    (run.path / CONFIG_FILE).write_text(json.dumps(content))
    assert RunFolder.open(run.path).config == run.config


def test_another_networks_generator_is_refused(run: RunFolder) -> None:
    wider = Generator(8, 3)
    run.save_checkpoint(Checkpoint(1, 2.5, {}), wider)
    with pytest.raises(RunError, match="does not hold this generator"):
        run.load_generator()


def test_somebody_elses_folder_is_never_replaced(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder.create(tmp_path / "thesis", scene, settings, seed=0)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_full_disk_leaves_the_last_checkpoint(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(4, 3)
    run.save_checkpoint(Checkpoint(4, 2.5, {}), generator)

    def no_space(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(TrainingError, match="No space left"):
        run.save_checkpoint(Checkpoint(5, 2.5, {}), generator)
    assert run.iterations_done == 4
    assert not list(run.path.glob(".*partial*"))


def test_a_config_of_the_copying_generator_says_nothing_of_training(
    tmp_path: Path, scene: Scene, copying_settings: CopyingSettings
) -> None:
    run = RunFolder.create(tmp_path / "run", scene, copying_settings)
    assert RunFolder.open(run.path).config == run.config
    content = json.loads((run.path / CONFIG_FILE).read_text())
    assert content["settings"] == copying_settings.to_dict()
    assert not {"seed", "patch_features"} & content.keys()


def test_a_copying_run_of_an_older_semia_is_named(
    tmp_path: Path, scene: Scene, settings: TrainingSettings, copying_settings: CopyingSettings
) -> None:
    run = RunFolder.create(tmp_path / "run", scene, copying_settings)
    content = json.loads((run.path / CONFIG_FILE).read_text())
    content["settings"] = settings.to_dict() | {"generator": "copying", "copying": {"width": 32}}
    (run.path / CONFIG_FILE).write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"run: prepared by an older semia: prepare it again with --overwrite"):
        RunFolder.open(run.path)


def test_the_config_is_json_for_other_tools(run: RunFolder) -> None:
    content = json.loads((run.path / CONFIG_FILE).read_text())
    assert content["palette"] == ["#0000FF", "#00FF00", "#FF0000"]
    assert content["settings"]["generator_width"] == 4

"""Preparing a run of the copying generator, killed and whole."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from semia.core.images import read_rgb
from semia.training.base import WorkProgress
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.preparation import prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.errors import RunError, TrainingError
from semia.training.run_folder import GENERATOR_FILE, PREPARED_FILE, RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings
from tests.conftest import SmallDisk

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path: Path, field_scene: Scene, copying_settings: CopyingSettings) -> RunFolder:
    return RunFolder.create(tmp_path / "run", field_scene, copying_settings)


def prepare_and_kill(path: Path, in_write: bool) -> None:
    """Prepare a run in this process, which kills itself in the second stage, or before the generator is renamed."""
    torch.set_num_threads(1)
    replace = Path.replace

    def replace_or_die(staged: Path, target: Path) -> Path:
        if target.name == GENERATOR_FILE:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(staged, target)

    def die(progress: WorkProgress) -> None:
        if progress.share > 0 and not in_write:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace_or_die  # type: ignore[method-assign,assignment]
    prepare_run(RunFolder.open(path), CPU, on_progress=die)


def test_a_prepared_run_holds_nothing_of_a_training(run: RunFolder, copying: CopyingGenerator) -> None:
    seen: list[WorkProgress] = []
    assert not run.finished
    assert run.preparation_s is None
    assert prepare_run(run, CPU, on_progress=seen.append)
    assert run.finished
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("scene/")} == {
        "config.json", "generator.safetensors", "prepared.json", "samples/prepared.png"
    }  # fmt: skip
    assert read_rgb(run.path / "samples" / "prepared.png").std() > 1
    assert run.preparation_s == json.loads((run.path / PREPARED_FILE).read_text())["seconds"] > 0
    assert (run.iterations_done, run.seconds_done) == (0, 0.0)
    assert [progress.share for progress in seen] == sorted(progress.share for progress in seen)
    assert (seen[0].left_s, seen[-1].left_s) == (None, 0.0)

    state, expected = run.load_generator().generator.state_dict(), copying.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_a_finished_one_is_left_as_it_is(run: RunFolder) -> None:
    prepare_run(run, CPU)
    before = (run.path / GENERATOR_FILE).stat().st_mtime_ns
    seen: list[WorkProgress] = []
    assert prepare_run(run, CPU, on_progress=seen.append)
    assert seen == []
    assert (run.path / GENERATOR_FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize("in_write", [False, True])
def test_a_killed_preparation_leaves_nothing_and_begins_anew(run: RunFolder, tmp_path: Path, in_write: bool) -> None:
    child = multiprocessing.get_context("spawn").Process(target=prepare_and_kill, args=(run.path, in_write))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (run.path / GENERATOR_FILE).exists()
    assert not run.finished
    assert run.preparation_s is None
    assert prepare_run(run, CPU)

    whole = RunFolder.create(tmp_path / "whole", run.scene, run.config.settings)
    assert prepare_run(whole, CPU)
    assert (whole.path / GENERATOR_FILE).read_bytes() == (run.path / GENERATOR_FILE).read_bytes()


def test_it_stops_when_it_is_told_to(run: RunFolder) -> None:
    answers = iter([False, True])
    assert not prepare_run(run, CPU, should_stop=lambda: next(answers))
    assert not run.finished
    assert {path.name for path in run.path.iterdir()} == {"config.json", "scene"}


def test_a_full_disk_is_said_and_nothing_half_written_stays(
    small_disk: SmallDisk, field_scene: Scene, copying_settings: CopyingSettings
) -> None:
    run = RunFolder.create(small_disk.path / "run", field_scene, copying_settings)
    with pytest.raises(TrainingError, match="No space left on device; the same command prepares it anew"):
        prepare_run(run, CPU, on_progress=lambda _: small_disk.leave(100_000))
    assert not run.finished
    assert not [*run.path.rglob(".*")]
    small_disk.empty()
    assert prepare_run(run, CPU)


def test_a_broken_record_of_the_time_is_named(run: RunFolder) -> None:
    prepare_run(run, CPU)
    (run.path / PREPARED_FILE).write_text("[]")
    with pytest.raises(RunError, match=r"cannot read .*prepared\.json"):
        _ = run.preparation_s


def test_what_is_trained_is_not_prepared(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings)
    with pytest.raises(RunError, match="the published generator is trained, not prepared"):
        prepare_run(run, CPU)

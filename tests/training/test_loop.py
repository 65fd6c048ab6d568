import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from semia.training.base import WorkProgress
from semia.training.copying.settings import CopyingSettings
from semia.training.errors import DivergedError, RunError, SettingsError, TrainingError
from semia.training.examples import paint_plates
from semia.training.loop import check_same_run, device_from_name, train
from semia.training.published.generator import Generator
from semia.training.run_folder import CHECKPOINT_FILE, METRICS_FILE, RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings
from tests.conftest import SmallDisk

CPU = torch.device("cpu")


def run_and_kill(path: Path, after: int, in_checkpoint: bool) -> None:
    """Train a run in this process, which kills itself after an iteration, or before that one's last.pt is renamed."""
    torch.set_num_threads(1)
    replace = Path.replace

    def replace_or_die(staged: Path, target: Path) -> Path:
        if target.name == CHECKPOINT_FILE:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(staged, target)

    def die(progress: WorkProgress) -> None:
        if progress.iteration == after and in_checkpoint:
            Path.replace = replace_or_die  # type: ignore[method-assign,assignment]
        elif progress.iteration == after:
            os.kill(os.getpid(), signal.SIGKILL)

    train(RunFolder.open(path), CPU, on_progress=die, checkpoint_interval_s=0)


def metrics_of(run: RunFolder) -> list[dict[str, float]]:
    """Its records, without how long iterations took."""
    lines = [json.loads(line) for line in (run.path / METRICS_FILE).read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("in_checkpoint", [False, True])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path,
    scene: Scene,
    settings: TrainingSettings,
    in_checkpoint: bool,
) -> None:
    settings = dataclasses.replace(settings, mixed_precision=True)  # as the presets do, where the CPU can
    whole = RunFolder.create(tmp_path / "whole", scene, settings, seed=11)
    assert train(whole, CPU)

    killed = RunFolder.create(tmp_path / "killed", scene, settings, seed=11)
    child = multiprocessing.get_context("spawn").Process(target=run_and_kill, args=(killed.path, 4, in_checkpoint))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert killed.iterations_done == (4 if in_checkpoint else 3)
    checkpoint = killed.load_checkpoint(CPU)
    assert checkpoint is not None
    assert checkpoint.iteration == 3
    assert train(killed, CPU)

    expected, resumed = (run.load_generator().generator.state_dict() for run in (whole, killed))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert [line["iteration"] for line in metrics_of(killed)] == list(range(settings.iterations))
    assert metrics_of(killed) == metrics_of(whole)


def test_a_run_leaves_everything_one_wants_to_look_at(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    seen: list[int] = []
    assert train(run, CPU, on_progress=lambda progress: seen.append(progress.iteration), sheet_interval_s=0)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert run.finished
    assert (run.path / "samples" / "000006.png").is_file()
    assert (run.path / "samples" / "000001.png").is_file()
    assert list(run.path.glob("events.out.tfevents.*"))


def test_a_stopped_run_keeps_what_was_learnt(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    answers = iter([False, True])
    assert not train(run, CPU, should_stop=lambda: next(answers))
    assert run.iterations_done == 2
    assert not run.finished


def test_a_run_that_is_stopped_while_examples_are_painted_has_learnt_nothing(
    tmp_path: Path, scene: Scene, settings: TrainingSettings
) -> None:
    settings = dataclasses.replace(settings, examples=3)
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    told: list[WorkProgress] = []
    assert not train(run, CPU, on_progress=told.append, should_stop=lambda: len(told) == 2)
    assert [at.stage for at in told] == ["painting example 1 of 3", "painting example 2 of 3"]
    assert run.iterations_done == 0
    assert train(run, CPU, on_progress=told.append)
    assert told[-1].share == 1


def test_a_run_with_class_plates_draws_with_them_when_it_is_opened_again(
    tmp_path: Path, scene: Scene, settings: TrainingSettings
) -> None:
    settings = dataclasses.replace(settings, examples=2, class_plates=True, begin_as_autoencoder=True)
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    assert not train(run, CPU, should_stop=lambda: (run.path / CHECKPOINT_FILE).exists(), checkpoint_interval_s=0)
    assert train(run, CPU)
    generator, tensors = RunFolder.open(run.path).load_generator()
    assert isinstance(generator, Generator)
    assert generator.plates is not None
    assert torch.equal(generator.plates, paint_plates(scene, tensors))


def test_a_full_disk_stops_training_and_what_was_learnt_stays(
    small_disk: SmallDisk, scene: Scene, settings: TrainingSettings
) -> None:
    """It is full in the middle of the third checkpoint."""
    run = RunFolder.create(small_disk.path / "run", scene, settings, seed=11)

    def fill(progress: WorkProgress) -> None:
        if progress.iteration == 3:
            small_disk.leave((run.path / CHECKPOINT_FILE).stat().st_size // 2)

    with pytest.raises(TrainingError, match="No space left on device") as caught:
        train(run, CPU, on_progress=fill, checkpoint_interval_s=0)
    assert len(str(caught.value).splitlines()) == 1
    checkpoint = run.load_checkpoint(CPU)
    assert checkpoint is not None
    assert checkpoint.iteration == 2
    assert not [*run.path.glob(".*")]
    small_disk.empty()
    assert train(run, CPU)
    assert [line["iteration"] for line in metrics_of(run)] == list(range(settings.iterations))


def test_a_checkpoint_of_other_networks_is_not_resumed(
    tmp_path: Path, scene: Scene, settings: TrainingSettings
) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    assert not train(run, CPU, should_stop=lambda: True)
    content = torch.load(run.path / CHECKPOINT_FILE, weights_only=True)
    del content["trainer"]["discriminator"]["score.weight"]
    torch.save(content, run.path / CHECKPOINT_FILE)
    with pytest.raises(RunError, match="another version of semia, with other networks, began it"):
        train(run, CPU)


def test_a_diverged_run_stops_and_keeps_its_last_checkpoint(
    tmp_path: Path, scene: Scene, settings: TrainingSettings
) -> None:
    wild = dataclasses.replace(settings, generator_rate=1e30, iterations=50)
    run = RunFolder.create(tmp_path / "run", scene, wild, seed=0)
    with pytest.raises(DivergedError, match="diverged at iteration"):
        train(run, CPU, checkpoint_interval_s=0)


def test_a_run_begun_otherwise_is_not_resumed(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    check_same_run(run, scene, settings, 0, "rgb")
    with pytest.raises(RunError, match="another seed"):
        check_same_run(run, scene, settings, 1, "rgb")
    with pytest.raises(RunError, match="another settings and patch features"):
        check_same_run(run, scene, dataclasses.replace(settings, iterations=7), 0, "abc")
    with pytest.raises(RunError, match="another photograph"):
        check_same_run(run, dataclasses.replace(scene, image=np.flipud(scene.image).copy()), settings, 0, "rgb")


def test_what_is_prepared_is_not_trained(tmp_path: Path, scene: Scene, copying_settings: CopyingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, copying_settings)
    with pytest.raises(RunError, match="the copying generator is prepared, not trained"):
        train(run, CPU)


def test_devices_are_checked() -> None:
    assert device_from_name("cpu").type == "cpu"
    assert device_from_name("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SettingsError, match="auto, cpu or cuda"):
        device_from_name("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said_at_once() -> None:
    with pytest.raises(SettingsError, match="sees no CUDA device"):
        device_from_name("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_runs_on_a_gpu(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> None:
    run = RunFolder.create(tmp_path / "run", scene, settings, seed=0)
    assert train(run, torch.device("cuda"))

"""What the options of `semia train` make of a preset."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from semia.cli.training import how_far
from semia.errors import InputError
from training.generator import Generator
from training.request import TrainRequest
from training.run_folder import Checkpoint, RunFolder
from training.scene import Scene
from training.settings import PRESETS, QUICK, TrainingSettings

NOTHING_ASKED = TrainRequest(scene=Path("scene"), run=Path("run"), preset="quick", device="cpu")


def settings(**asked: Any) -> TrainingSettings:
    return dataclasses.replace(NOTHING_ASKED, **asked).settings()


def test_a_preset_stays_as_it_is_unless_asked() -> None:
    assert settings() == QUICK
    assert settings(minutes=5.0) == dataclasses.replace(QUICK, minutes=5.0)
    assert settings(iterations=110) == QUICK.with_iterations(110)
    assert settings(rotate=10.0).augmentation.max_rotation_degrees == 10.0


def test_a_presets_minutes_yield_to_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "quick", dataclasses.replace(QUICK, minutes=3.0))
    assert settings().minutes == 3.0
    assert settings(minutes=5.0).minutes == 5.0
    assert settings(iterations=110) == QUICK.with_iterations(110)


def test_vgg_weights_are_for_the_generator_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "quick", dataclasses.replace(QUICK, generator="copying"))
    assert settings().generator == "copying"
    with pytest.raises(InputError, match="--vgg-weights: the copying generator compares no VGG19 features"):
        settings(vgg_weights=Path("vgg.pth"))


@pytest.mark.parametrize(
    ("minutes", "words"), [(None, "4 of 6 iterations"), (5.0, "4 iterations in 1:03 of 5:00 minutes")]
)
def test_how_far_a_run_is_is_told_by_what_ends_it(
    tmp_path: Path, scene: Scene, settings: TrainingSettings, minutes: float | None, words: str
) -> None:
    run = RunFolder.create(tmp_path / "run", scene, dataclasses.replace(settings, minutes=minutes), seed=0)
    run.save_checkpoint(Checkpoint(4, 63.0, {}), Generator.from_settings(settings))
    assert how_far(run) == words

"""What the options of `semia train` make of a preset."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from semia.cli.train import describe_progress
from semia.core.errors import InputError
from semia.training.copying.settings import CopyingSettings
from semia.training.published.generator import Generator
from semia.training.request import TrainRequest
from semia.training.run_folder import Checkpoint, RunFolder
from semia.training.scene import Scene
from semia.training.settings import DEFAULT, PAPER_SHORT, PRESETS, TrainingSettings

NOTHING_ASKED = TrainRequest(scene=Path("scene"), run=Path("run"), preset="paper-short", device="cpu")


def settings(**asked: Any) -> TrainingSettings | CopyingSettings:
    return dataclasses.replace(NOTHING_ASKED, **asked).settings()


def test_a_preset_stays_as_it_is_unless_asked() -> None:
    assert settings() == PAPER_SHORT
    assert settings(minutes=5.0) == dataclasses.replace(PAPER_SHORT, minutes=5.0)
    assert settings(iterations=110) == PAPER_SHORT.with_iterations(110)
    rotating = dataclasses.replace(PAPER_SHORT.augmentation, max_rotation_degrees=10.0)
    assert settings(rotate=10.0) == dataclasses.replace(PAPER_SHORT, augmentation=rotating)


def test_a_presets_minutes_yield_to_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    by_the_clock = dataclasses.replace(PAPER_SHORT, minutes=3.0)
    monkeypatch.setitem(PRESETS, "paper-short", by_the_clock)
    assert settings() == by_the_clock
    assert settings(minutes=5.0) == dataclasses.replace(PAPER_SHORT, minutes=5.0)
    assert settings(iterations=110) == PAPER_SHORT.with_iterations(110)


@pytest.mark.parametrize(
    ("option", "value"),
    [("iterations", 9), ("minutes", 5.0), ("rotate", 0.0), ("shift", 0.1), ("vgg_weights", Path("vgg.pth"))],
)
def test_what_decides_a_training_is_refused_where_nothing_is_trained(option: str, value: object) -> None:
    assert settings(preset="default", seed=7) == DEFAULT
    name = f"--{option.replace('_', '-')}"
    words = f"preset default is prepared, not trained: drop {name}, or choose --preset paper or paper-short"
    with pytest.raises(InputError, match=f"^{words}$"):
        settings(preset="default", **{option: value})


@pytest.mark.parametrize(
    ("minutes", "words"), [(None, "4 of 6 iterations"), (5.0, "4 iterations in 1:03 of 5:00 minutes")]
)
def test_how_far_a_run_is_is_told_by_what_ends_it(
    tmp_path: Path, scene: Scene, settings: TrainingSettings, minutes: float | None, words: str
) -> None:
    timed = dataclasses.replace(settings, minutes=minutes)
    run = RunFolder.create(tmp_path / "run", scene, timed, seed=0)
    run.save_checkpoint(Checkpoint(4, 63.0, {}), Generator.from_settings(settings))
    assert describe_progress(run, timed) == words

import dataclasses
import json
import math
from typing import Any

import pytest

from semia.training.copying.settings import CopyingSettings
from semia.training.errors import SettingsError
from semia.training.settings import (
    DEFAULT,
    PAPER,
    PAPER_SHORT,
    PRESETS,
    LossWeights,
    TrainingSettings,
    settings_from_dict,
)


def test_the_paper_preset_is_the_published_schedule() -> None:
    assert (PAPER.iterations, PAPER.generator_steps, PAPER.generator_width, PAPER.depth) == (2500, 10, 32, 3)
    assert [PAPER.is_reconstruction(iteration) for iteration in range(5)] == [True, False, False, False, False]
    assert (PAPER.generator_rate, PAPER.discriminator_rate) == (0.005, 0.02)
    assert PAPER.augmentation_strength(0) == 0
    assert PAPER.augmentation_strength(500 / 2500) == 0.5
    assert PAPER.augmentation_strength(2000 / 2500) == 1
    assert PAPER.rate_share(999 / 2500) == 1
    assert PAPER.rate_share(1750 / 2500) == pytest.approx(0.55)
    assert PAPER.rate_share(1) == pytest.approx(0.1)
    assert PAPER.ratio_limit is None
    assert (PAPER.weights.supervision, PAPER.weights.gradients) == (0, 0)
    assert (PAPER.even_phases, PAPER.interpolation) == (False, "bilinear")
    assert (PAPER.momentum, PAPER.square_decay) == (0, 0.9)
    assert (PAPER.begin_as_autoencoder, PAPER.examples, PAPER.weights.distribution) == (False, 0, 0)
    assert (PAPER.class_plates, PAPER.weights.changed_distribution) == (False, 0)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_json(name: str) -> None:
    settings = PRESETS[name]
    assert settings.preset == name
    assert settings_from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_schedules_scale_with_the_iterations() -> None:
    half = PAPER.with_iterations(1250)
    assert (half.progressive_iterations, half.constant_iterations) == (500, 500)
    assert half.rate_share(1) == pytest.approx(0.1)
    assert [PAPER_SHORT.with_iterations(count).examples for count in (1, 110, 220, 2200)] == [1, 75, 150, 150]


def test_progress_is_the_share_of_the_iterations() -> None:
    assert [PAPER.progress(done, seconds=9.0) for done in (0, 1000, 2500, 2501)] == [0, 0.4, 1, 1]


def test_progress_by_the_clock_is_the_share_of_the_minutes() -> None:
    five_minutes = dataclasses.replace(PAPER, minutes=5)
    assert [five_minutes.progress(9999, seconds) for seconds in (0, 75, 300, 301)] == [0, 0.25, 1, 1]
    assert five_minutes.rate_share(0.7) == PAPER.rate_share(0.7)  # the schedules keep their shape


def test_the_copying_generators_settings_survive_json() -> None:
    copying = CopyingSettings()
    assert settings_from_dict(json.loads(json.dumps(copying.to_dict()))) == copying


def test_the_copying_generators_settings_say_nothing_of_training() -> None:
    assert DEFAULT.to_dict() == {"generator": "copying", "method": DEFAULT.method}


def test_settings_from_before_there_were_two_generators_and_minutes_are_read() -> None:
    content = PAPER.to_dict()
    del content["generator"], content["minutes"]
    assert settings_from_dict(content) == PAPER


def test_settings_from_when_both_generators_shared_them_are_read_for_the_published_one_alone() -> None:
    shared = PAPER.to_dict() | {"copying": {"width": 32, "rate": 2.5e-7, "batch": 4, "tokens": 1024}}
    assert settings_from_dict(shared) == PAPER
    with pytest.raises(SettingsError, match="prepared by an older semia: prepare it again with --overwrite"):
        settings_from_dict(shared | {"generator": "copying"})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="speed"):
        TrainingSettings.from_dict(PAPER.to_dict() | {"speed": 11})


IMPOSSIBLE: list[dict[str, Any]] = [
    {"iterations": 0},
    {"generator_width": 6},
    {"generator_steps": 0},
    {"interpolation": "cubic"},
    {"momentum": 1.0},
    {"square_decay": -0.1},
    {"examples": -1},
    {"generator": "best"},
    {"minutes": 0.0},
    {"minutes": math.inf},
    {"minutes": math.nan},
]


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=str)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        settings_from_dict(PAPER.to_dict() | change)


@pytest.mark.parametrize("settings", [{}, {"width": 32}, {"method": 1}, {"method": 2, "width": 32}], ids=str)
def test_another_methods_copying_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="prepared by an older semia: prepare it again with --overwrite"):
        settings_from_dict({"generator": "copying"} | settings)


def test_negative_weights_are_refused() -> None:
    with pytest.raises(SettingsError, match="coherence"):
        LossWeights(coherence=-1)

import json

import pytest

from training.errors import SettingsError
from training.settings import PAPER, PRESETS, LossWeights, TrainingSettings


def test_the_paper_preset_is_the_published_schedule() -> None:
    assert (PAPER.iterations, PAPER.generator_steps, PAPER.generator_width, PAPER.depth) == (2500, 10, 32, 3)
    assert [PAPER.is_reconstruction(iteration) for iteration in range(5)] == [False, False, False, False, True]
    assert (PAPER.generator_rate, PAPER.discriminator_rate) == (0.005, 0.02)
    assert PAPER.augmentation_strength(0) == 0
    assert PAPER.augmentation_strength(500) == 0.5
    assert PAPER.augmentation_strength(2000) == 1
    assert PAPER.rate_share(999) == 1
    assert PAPER.rate_share(1750) == pytest.approx(0.55)
    assert PAPER.rate_share(2500) == pytest.approx(0.1)
    assert PAPER.ratio_limit is None
    assert PAPER.weights.supervision == 0


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_json(name: str) -> None:
    settings = PRESETS[name]
    assert settings.preset == name
    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_schedules_scale_with_the_iterations() -> None:
    half = PAPER.with_iterations(1250)
    assert (half.progressive_iterations, half.constant_iterations) == (500, 500)
    assert half.rate_share(1250) == pytest.approx(0.1)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="speed"):
        TrainingSettings.from_dict(PAPER.to_dict() | {"speed": 11})


@pytest.mark.parametrize("change", [{"iterations": 0}, {"generator_width": 6}, {"generator_steps": 0}])
def test_impossible_settings_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        TrainingSettings.from_dict(PAPER.to_dict() | change)


def test_negative_weights_are_refused() -> None:
    with pytest.raises(SettingsError, match="coherence"):
        LossWeights(coherence=-1)

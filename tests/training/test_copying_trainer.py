import dataclasses

import pytest
import torch

from training.copying_settings import CopyingSettings
from training.copying_trainer import CopyingTrainer
from training.settings import QUICK, TrainingSettings
from training.tensors import SceneTensors


@pytest.fixture
def small() -> TrainingSettings:
    return dataclasses.replace(QUICK, copying=CopyingSettings(width=8, rate=1e-3, batch=2, tokens=64))


def test_a_resumed_trainer_goes_on_as_if_nothing_had_happened(tensors: SceneTensors, small: TrainingSettings) -> None:
    whole = CopyingTrainer(tensors, small, seed=3)
    for iteration in range(3):
        expected = whole.iterate(iteration, iteration / 4)

    interrupted = CopyingTrainer(tensors, small, seed=3)
    for iteration in range(2):
        interrupted.iterate(iteration, iteration / 4)
    resumed = CopyingTrainer(tensors, small, seed=3)
    resumed.load_state_dict(interrupted.state_dict())
    assert resumed.iterate(2, 0.5) == expected
    ours, theirs = whole.generator.state_dict(), resumed.generator.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_layouts_without_any_object_teach_nothing(
    tensors: SceneTensors, small: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.layout_sampling.LEFT_OUT", 1.0)
    monkeypatch.setattr("training.layout_sampling.DOUBLED", 0.0)
    assert CopyingTrainer(tensors, small, seed=0).iterate(0, 0.0) == {"matching": 0.0, "misplaced": 0.0}


def test_matching_is_learnt(tensors: SceneTensors, small: TrainingSettings) -> None:
    trainer = CopyingTrainer(tensors, small, seed=0)
    losses = [trainer.iterate(iteration, 0.0)["matching"] for iteration in range(40)]
    assert sum(losses[-8:]) < sum(losses[:8])


def test_the_finished_generator_is_a_copy_on_the_scale_it_began_with(
    tensors: SceneTensors, small: TrainingSettings
) -> None:
    trainer = CopyingTrainer(tensors, small, seed=0)
    for iteration in range(5):
        trainer.iterate(iteration, 0.0)
    before = {name: value.clone() for name, value in trainer.generator.state_dict().items()}
    finished = trainer.finished_generator()
    assert not finished.training
    assert all(torch.equal(before[name], value) for name, value in trainer.generator.state_dict().items())
    shares = finished.shares(finished.class_ids)
    described = finished.encoder(shares).flatten(2)
    spread = (described - described.mean(2, keepdim=True)).square().sum(1).mean()
    assert spread.item() == pytest.approx(finished.encoder.first_spread.item(), rel=0.05)

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from semia.training.published.losses import rgb_features
from semia.training.published.trainer import AlternatingTrainer
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors
from tests.load import training_steps

PARTS = [
    "label encoder", "translation heads", "image encoder", "decoder",
    "discriminator", "segmentation", "patch coherence", "optimizer",
]  # fmt: skip


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(training_steps.main)
    return app


def test_every_part_is_timed(
    tensors: SceneTensors, settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_steps, "PEAK_SIDE", 64)
    trainer = AlternatingTrainer(tensors, settings, 0, rgb_features)
    report = training_steps.measure(trainer, repeats=2)
    assert [part.name for part in report.parts] == PARTS
    assert all(part.seconds > 0 for part in report.parts)
    assert all(part.gflop > 0 for part in report.parts if part.name != "optimizer")
    assert (len(report.sampling_s), len(report.reconstruction_s), len(report.forward_s)) == (2, 2, 2)
    assert report.sampling_passes > 1
    assert trainer.generator.training
    assert report.canvas == "64x48"
    assert report.precision == "float32"
    assert 0 < report.coherence_share < 1
    content = json.loads(report.to_json())
    assert content["threads"] == torch.get_num_threads()
    assert content["coherence_share"] == report.coherence_share


def test_the_command_prints_tables(
    app: typer.Typer, scene_folder: Path, settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_steps, "PEAK_SIDE", 64)
    monkeypatch.setattr(training_steps, "PUBLISHED", {"tiny": settings})
    monkeypatch.setattr(training_steps, "prepare_process", lambda: None)  # this process is pytest's
    result = CliRunner().invoke(app, [str(scene_folder), "--preset", "tiny", "--repeats", "1", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "patch coherence" in result.output
    assert "forward passes" in result.output


def test_a_scene_that_is_none_is_said(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere" in result.output


def test_an_unknown_preset_is_said(app: typer.Typer, scene_folder: Path) -> None:
    result = CliRunner().invoke(app, [str(scene_folder), "--preset", "speedy"])
    assert result.exit_code == 2
    assert "paper" in result.output

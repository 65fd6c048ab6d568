"""A trained run, small and made once."""

import dataclasses
from pathlib import Path

import pytest
import torch

from export.bundle import export_run
from training.run_folder import RunFolder
from training.scene import Scene
from training.settings import TrainingSettings
from training.train import train


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, scene: Scene, settings: TrainingSettings) -> RunFolder:
    """A run of three iterations; shared, so do not change it."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    folder = RunFolder.create(path, scene, dataclasses.replace(settings, iterations=3), seed=0)
    assert train(folder, torch.device("cpu"))
    return folder


@pytest.fixture(scope="session")
def exported(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's bundle; shared, so do not change it."""
    folder = tmp_path_factory.mktemp("bundles") / "exported"
    export_run(run, folder)
    return folder

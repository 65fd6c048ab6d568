"""A trained run, small and made once."""

from pathlib import Path

import pytest
import torch

from semia.training.loop import train
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, scene: Scene, settings: TrainingSettings) -> Path:
    """A run folder of two iterations; shared, so do not change it."""
    path = tmp_path_factory.mktemp("cli") / "run"
    assert train(RunFolder.create(path, scene, settings.with_iterations(2), seed=0), torch.device("cpu"))
    return path

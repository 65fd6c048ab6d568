"""The whole way works with any generator: here the simplest one there is, in the copying generator's place."""

import dataclasses
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.bundle import export_run
from semia.model_card import CARD_FILE, ModelCard
from training.copying_settings import CopyingSettings
from training.errors import RunError
from training.generators import new_generator, new_trainer
from training.interface import SceneGenerator, Trainer
from training.pixels import colours_from_ids, pixels_from_tensor
from training.rendering import Renderer
from training.run_folder import RunFolder
from training.scene import Scene
from training.settings import TrainingSettings
from training.tensors import SceneTensors
from training.train import train

CPU = torch.device("cpu")


class FlatGenerator(SceneGenerator):
    """Paints every class in one colour; it keeps the photograph, as the copying generator does."""

    photograph: Tensor

    def __init__(self, settings: CopyingSettings, scene: SceneTensors) -> None:
        super().__init__()
        self.register_buffer("photograph", scene.image.clone())
        self.colours = nn.Parameter(torch.zeros(len(scene.palette), 3))

    def synthesise(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        return colours_from_ids(target_ids, self.colours)


class FlatTrainer:
    """Pulls the colours to the photograph's; remembers the shares of the run that it was told."""

    def __init__(self, scene: SceneTensors, settings: TrainingSettings, seed: int) -> None:
        self._scene = scene
        self._settings = settings
        self.generator = FlatGenerator(settings.copying, scene)
        self._optimiser = torch.optim.Adam(self.generator.parameters(), lr=0.1)
        self.shares: list[float] = []

    def iterate(self, iteration: int, progress: float) -> dict[str, float]:
        self.shares.append(progress)
        loss = (self.generator.synthesise(self._scene, self._scene.class_ids) - self._scene.image).square().mean()
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._optimiser.step()
        return {"reconstruction": loss.item()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "shares": self.shares,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert set(state) == {"generator", "optimiser", "shares"}
        self.generator.load_state_dict(state["generator"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.shares = state["shares"]

    def finished_generator(self) -> FlatGenerator:
        generator = FlatGenerator(self._settings.copying, self._scene)
        generator.load_state_dict(self.generator.state_dict())
        return generator.eval()


class FlatGraph(nn.Module):
    """The colours, looked up."""

    palette: Tensor

    def __init__(self, generator: FlatGenerator, scene: SceneTensors) -> None:
        super().__init__()
        self.canvas = scene.canvas
        self.register_buffer("palette", generator.colours.detach())

    def forward(self, target_labels: Tensor) -> Tensor:
        return pixels_from_tensor(colours_from_ids(target_labels, self.palette))


@pytest.fixture(autouse=True)
def _in_the_copying_generators_place(monkeypatch: pytest.MonkeyPatch) -> None:
    places: dict[str, type] = {
        "training.copying_generator.CopyingGenerator": FlatGenerator,
        "training.copying_trainer.CopyingTrainer": FlatTrainer,
        "export.copying_graph.CopyingGraph": FlatGraph,
    }
    for place, stand_in in places.items():
        name, _, attribute = place.rpartition(".")
        module = types.ModuleType(name)
        setattr(module, attribute, stand_in)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def begin(tmp_path: Path, scene: Scene, settings: TrainingSettings) -> Callable[..., RunFolder]:
    """Begins a run of the flat generator: ``begin(name, **changes of the settings)``."""

    def create(name: str, **changes: Any) -> RunFolder:
        return RunFolder.create(
            tmp_path / name, scene, dataclasses.replace(settings, generator="copying", **changes), seed=0
        )

    return create


def test_the_settings_decide_which_generator_and_trainer(settings: TrainingSettings, tensors: SceneTensors) -> None:
    copying = dataclasses.replace(settings, generator="copying")
    trainer: Trainer = new_trainer(copying, tensors, seed=0)
    assert isinstance(new_generator(copying, tensors), FlatGenerator)
    assert isinstance(trainer.finished_generator(), FlatGenerator)
    assert not isinstance(new_generator(settings, tensors), FlatGenerator)
    assert not isinstance(new_trainer(settings, tensors, seed=0).finished_generator(), FlatGenerator)


def test_it_trains_resumes_and_renders(begin: Callable[..., RunFolder], scene: Scene, tensors: SceneTensors) -> None:
    whole, stopped = begin("whole"), begin("stopped")
    assert train(whole, CPU)
    answers = iter([False, True])
    assert not train(stopped, CPU, should_stop=lambda: next(answers))
    assert train(RunFolder.open(stopped.path), CPU)

    generators = [run.load_generator(tensors) for run in (whole, stopped)]
    states = [generator.state_dict() for generator in generators]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert torch.equal(states[0]["photograph"], tensors.image)
    picture = Renderer(generators[1], tensors)(scene.targets["moved"])
    assert picture.shape == (44, 60, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == len(scene.palette)

    checkpoint = stopped.load_checkpoint(CPU)
    assert checkpoint is not None
    assert checkpoint.trainer["shares"] == [done / 6 for done in range(6)]


def test_it_is_exported_and_the_card_names_it(begin: Callable[..., RunFolder], tmp_path: Path) -> None:
    run = begin("run")
    assert train(run, CPU)
    export_run(run, tmp_path / "bundle")
    card = ModelCard.read(tmp_path / "bundle" / CARD_FILE)
    assert card.generator == "copying"
    assert max(entry.max_abs for entry in card.parity) <= 1
    assert json.loads((run.path / "config.json").read_text())["settings"]["copying"] == dataclasses.asdict(
        CopyingSettings()
    )


def test_the_published_generators_weights_are_refused(
    begin: Callable[..., RunFolder], run: RunFolder, tensors: SceneTensors
) -> None:
    flat = begin("flat")
    (flat.path / "generator.safetensors").write_bytes((run.path / "generator.safetensors").read_bytes())
    with pytest.raises(RunError, match="does not hold this generator"):
        flat.load_generator(tensors)

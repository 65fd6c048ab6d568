"""The whole way works with any generator: here the simplest one there is, in the copying generator's place."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semia.core.model_card import CARD_FILE, ModelCard
from semia.export.exporter import export_run
from semia.training.base import OnStage, SceneGenerator
from semia.training.copying.preparation import prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.errors import RunError
from semia.training.published.generator import Generator
from semia.training.run_folder import RunFolder, new_generator
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors, colors_from_ids, pixels_from_tensor

CPU = torch.device("cpu")


class FlatGenerator(SceneGenerator):
    """Paints every class in one color; it keeps the photograph, as the copying generator does."""

    photograph: Tensor

    def __init__(self, settings: CopyingSettings, scene: SceneTensors) -> None:
        super().__init__()
        self.register_buffer("photograph", scene.image.clone())
        self.colors = nn.Parameter(torch.zeros(len(scene.palette), 3))

    @torch.no_grad()
    def prepare(self, on_stage: OnStage) -> None:
        on_stage("colors", 0.0)
        self.colors.copy_(torch.linspace(-1, 1, self.colors.numel()).view_as(self.colors))

    def synthesize(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        return colors_from_ids(target_ids, self.colors)


class FlatGraph(nn.Module):
    """The colors, looked up."""

    palette: Tensor

    def __init__(self, generator: FlatGenerator, scene: SceneTensors) -> None:
        super().__init__()
        self.canvas = scene.canvas
        self.register_buffer("palette", generator.colors.detach())

    def forward(self, target_labels: Tensor) -> Tensor:
        return pixels_from_tensor(colors_from_ids(target_labels, self.palette))


@pytest.fixture(autouse=True)
def _in_the_copying_generators_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semia.training.copying.preparation.CopyingGenerator", FlatGenerator)
    places: dict[str, type] = {
        "semia.training.copying.generator.CopyingGenerator": FlatGenerator,
        "semia.export.graphs.copying.CopyingGraph": FlatGraph,
    }
    for place, stand_in in places.items():
        name, _, attribute = place.rpartition(".")
        module = types.ModuleType(name)
        setattr(module, attribute, stand_in)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def flat(tmp_path: Path, scene: Scene) -> RunFolder:
    """A run of the flat generator, not prepared yet."""
    return RunFolder.create(tmp_path / "flat", scene, CopyingSettings())


def test_the_settings_decide_which_generator(settings: TrainingSettings, tensors: SceneTensors) -> None:
    assert isinstance(new_generator(CopyingSettings(), tensors), FlatGenerator)
    assert isinstance(new_generator(settings, tensors), Generator)


def test_it_is_prepared_and_renders(flat: RunFolder, scene: Scene) -> None:
    assert prepare_run(flat, CPU)
    loaded = RunFolder.open(flat.path).load_generator()
    assert torch.equal(loaded.generator.state_dict()["photograph"], loaded.tensors.image)
    picture = loaded.renderer()(scene.targets["moved"])
    assert picture.shape == (44, 60, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == len(scene.palette)


def test_it_is_exported_and_the_card_names_it(flat: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no generator\.safetensors yet"):
        export_run(flat, tmp_path / "bundle")
    assert prepare_run(flat, CPU)
    export_run(flat, tmp_path / "bundle")
    card = ModelCard.read(tmp_path / "bundle" / CARD_FILE)
    assert (card.generator, card.preset, card.iterations) == ("copying", "default", None)
    assert max(entry.max_abs for entry in card.parity) <= 1


def test_the_published_generators_weights_are_refused(flat: RunFolder, run: RunFolder) -> None:
    (flat.path / "generator.safetensors").write_bytes((run.path / "generator.safetensors").read_bytes())
    with pytest.raises(RunError, match="does not hold this generator"):
        flat.load_generator()

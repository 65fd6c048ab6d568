import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from semia.export.graphs.published import SynthesisGraph, without_training_parts
from semia.training.base import Renderer
from semia.training.published.generator import Generator
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors


@pytest.fixture
def generator(run: RunFolder, tensors: SceneTensors) -> Generator:
    generator = run.load_generator().generator
    assert isinstance(generator, Generator)
    return generator


def test_nothing_of_training_is_left(generator: Generator) -> None:
    folded = without_training_parts(generator)
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_the_original_stays_whole(generator: Generator, scene: Scene, tensors: SceneTensors) -> None:
    before = Renderer(generator, tensors)(scene.labels)
    without_training_parts(generator)
    assert np.array_equal(Renderer(generator, tensors)(scene.labels), before)


def test_folding_changes_no_output(generator: Generator, tensors: SceneTensors) -> None:
    generator.ratio_limit = 4.0  # without it, where a feature is almost 0, the ratio shows how float32 rounds
    folded = without_training_parts(generator)
    with torch.no_grad():
        expected = generator(tensors.image, tensors.labels, tensors.labels.flip(3)).image
        actual = folded(tensors.image, tensors.labels, tensors.labels.flip(3)).image
    assert (actual - expected).abs().max() < 1e-3 * (expected.max() - expected.min())


def test_the_graph_draws_what_the_generator_draws(generator: Generator, scene: Scene, tensors: SceneTensors) -> None:
    graph, render = SynthesisGraph(generator, tensors).eval(), Renderer(generator, tensors)
    targets = [scene.labels, scene.targets["moved"]]
    with torch.no_grad():
        pictures = graph(torch.from_numpy(np.stack(targets))).numpy()
    assert (pictures.shape, pictures.dtype) == ((2, 44, 60, 3), np.uint8)
    for picture, target in zip(pictures, targets, strict=True):
        assert np.abs(picture.astype(int) - render(target).astype(int)).max() <= 1


def test_a_graph_with_plates_draws_what_its_generator_draws(scene: Scene, tensors: SceneTensors) -> None:
    torch.manual_seed(0)
    plates = torch.randint(0, 256, (3, *tensors.image.shape[1:]), dtype=torch.uint8)
    generator = Generator(8, 3, ratio_limit=4.0, plates=plates)
    targets = np.stack([scene.labels, scene.targets["moved"]])
    with torch.no_grad():  # the first gives the batch norms statistics to fold
        generator.train()(generator.image_for(tensors, tensors.class_ids), tensors.labels, tensors.labels.flip(3))
        pictures = SynthesisGraph(generator, tensors)(torch.from_numpy(targets)).numpy()
    render = Renderer(generator, tensors)
    for picture, target in zip(pictures, targets, strict=True):
        assert np.abs(picture.astype(int) - render(target).astype(int)).max() <= 1


def test_the_ratios_denominators_are_the_generators_own(generator: Generator, tensors: SceneTensors) -> None:
    graph = SynthesisGraph(generator, tensors)
    with torch.no_grad():
        features = generator.label_encoder(tensors.labels)
    for level, expected in enumerate(features):
        assert torch.equal(graph.get_buffer(f"source_features_{level}"), expected)

import pytest
import torch

from semia.training.published.autoencoder import begin_as_autoencoder
from semia.training.published.generator import Generator, Synthesis
from semia.training.published.layers import initialize
from semia.training.tensors import SceneTensors


def new_generator(width: int) -> Generator:
    torch.manual_seed(0)
    generator = Generator(width, depth=3, ratio_limit=4.0)
    initialize(generator, 1.0)
    return generator


def drawn(generator: Generator, tensors: SceneTensors) -> Synthesis:
    with torch.no_grad():
        synthesis: Synthesis = generator(tensors.image, tensors.labels, tensors.labels)
    return synthesis


@pytest.mark.parametrize("width", [8, 16, 32])  # components that have to be left out, few of them, none
def test_an_untrained_generator_draws_its_photograph(tensors: SceneTensors, width: int) -> None:
    generator = new_generator(width)
    begin_as_autoencoder(generator, tensors.image)
    pair = torch.stack([drawn(generator, tensors).image.flatten(), tensors.image.flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.7


def test_equal_label_maps_translate_nothing_yet(tensors: SceneTensors) -> None:
    generator = new_generator(16)
    begin_as_autoencoder(generator, tensors.image)
    translation = drawn(generator, tensors).translation
    for gamma, beta in zip(*translation, strict=True):
        torch.testing.assert_close(gamma, torch.ones_like(gamma), atol=0.05, rtol=0)
        torch.testing.assert_close(beta, torch.zeros_like(beta), atol=0.05, rtol=0)


def test_the_label_encoder_stays_as_it_was(tensors: SceneTensors) -> None:
    generator = new_generator(8)
    before = {name: value.clone() for name, value in generator.label_encoder.state_dict().items()}
    begin_as_autoencoder(generator, tensors.image)
    after = generator.label_encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_with_plates_other_layouts_translate_next_to_nothing_either(tensors: SceneTensors) -> None:
    torch.manual_seed(0)
    generator = Generator(16, depth=3, ratio_limit=4.0, plates=torch.zeros(3, 3, 48, 64, dtype=torch.uint8))
    initialize(generator, 1.0)
    begin_as_autoencoder(generator, tensors.image)
    with torch.no_grad():
        translation = generator(tensors.image, tensors.labels, tensors.labels.flip(3)).translation
    for gamma, beta in zip(*translation, strict=True):
        assert torch.allclose(gamma[:, :-1], torch.ones_like(gamma[:, :-1]), atol=0.05)
        assert torch.allclose(beta[:, :-1], torch.zeros_like(beta[:, :-1]), atol=0.05)

import pytest
import torch
from torch import Tensor

from training.class_layers import complete_layers

COLOURS = torch.tensor([[0.1, 0.3, 0.9], [0.2, 0.8, 0.2], [0.9, 0.2, 0.1]])
TEXTURE = 0.05


def picture(class_ids: Tensor) -> Tensor:
    """Every class in its colour, give or take `TEXTURE`."""
    generator = torch.Generator().manual_seed(0)
    noise = (torch.rand(3, *class_ids.shape, generator=generator) * 2 - 1) * TEXTURE
    return COLOURS[class_ids].permute(2, 0, 1) + noise


@pytest.fixture(scope="module")
def class_ids() -> Tensor:
    ids = torch.zeros(48, 64, dtype=torch.int64)
    ids[28:] = 1
    ids[12:36, 20:40] = 2
    return ids


@pytest.fixture(scope="module")
def layers(class_ids: Tensor) -> Tensor:
    return complete_layers(picture(class_ids), class_ids, [True, True, False])


def test_inside_its_class_a_layer_is_the_photograph(layers: Tensor, class_ids: Tensor) -> None:
    image = picture(class_ids)
    assert torch.equal(layers[0, :, :8], image[:, :8])
    assert torch.equal(layers[1, :, 40:], image[:, 40:])
    assert torch.equal(layers[2, :, 17:31, 25:35], image[:, 17:31, 25:35])


@pytest.mark.parametrize("class_id", range(3))
def test_a_layer_shows_its_class_everywhere_and_no_other(layers: Tensor, class_id: int) -> None:
    assert ((layers[class_id] - COLOURS[class_id][:, None, None]).abs() <= TEXTURE + 1e-5).all()


def test_what_is_completed_keeps_its_texture(layers: Tensor) -> None:
    behind_the_box = layers[0, :, 16:26, 24:36]
    assert behind_the_box.flatten(1).std(1).mean() > 0.6 * TEXTURE / 3**0.5


def test_a_class_of_one_tiny_spot_is_completed_from_it(class_ids: Tensor) -> None:
    ids = class_ids.clone()
    ids[ids == 2] = 1
    ids[4:6, 50:53] = 2  # smaller than a token
    layer = complete_layers(picture(ids), ids, [True, True, False])[2]
    assert (layer[0, 4:6, 50:53] > 0.5 * COLOURS[2, 0]).all()  # half of it, at least, is the spot itself
    assert layer.isfinite().all()


def test_a_class_that_the_photograph_lacks_has_the_photograph_itself(class_ids: Tensor) -> None:
    image = picture(class_ids)
    assert torch.equal(complete_layers(image, class_ids, [False] * 4)[3], image)


def test_layers_are_the_same_every_time(layers: Tensor, class_ids: Tensor) -> None:
    again = complete_layers(picture(class_ids), class_ids, [True, True, False])
    assert torch.equal(again, layers)

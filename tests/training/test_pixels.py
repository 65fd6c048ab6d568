import numpy as np
import torch

from semia.core.palette import Palette
from semia.training.tensors import colors_from_ids, palette_tensor, picture_from_tensor, tensor_from_picture


def test_every_level_survives_the_round_trip() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    tensor = tensor_from_picture(picture)
    assert tensor.shape == (1, 3, 16, 16)
    assert (tensor.min().item(), tensor.max().item()) == (-1, 1)
    assert np.array_equal(picture_from_tensor(tensor), picture)


def test_values_out_of_range_are_clamped_not_wrapped() -> None:
    image = torch.tensor([-50.0, -1.01, 1.01, 50.0]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert picture_from_tensor(image)[..., 0].tolist() == [[0, 0], [255, 255]]


def test_ids_become_their_palette_colors() -> None:
    palette = Palette(((255, 0, 0), (0, 255, 0)))
    colors = colors_from_ids(torch.tensor([[[0, 1]]]), palette_tensor(palette))
    assert colors[0, :, 0, 0].tolist() == [1, -1, -1]
    assert colors[0, :, 0, 1].tolist() == [-1, 1, -1]

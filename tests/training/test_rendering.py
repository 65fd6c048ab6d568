import numpy as np
import torch

from semia.training.base import Renderer
from semia.training.published.generator import Generator
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors


def test_a_picture_has_the_canvass_size(scene: Scene, tensors: SceneTensors) -> None:
    torch.manual_seed(0)
    generator = Generator(4, 3)
    render = Renderer(generator, tensors)
    picture = render(scene.targets["moved"])
    assert picture.shape == (44, 60, 3)
    assert picture.dtype == np.uint8
    # Inference mode: the same labels give the same picture, and leave no trace in the network.
    assert np.array_equal(render(scene.targets["moved"]), picture)
    assert not np.array_equal(render(scene.labels), picture)

"""A trained generator at work, in PyTorch: the reference that every export is compared with."""

import torch

from semia.images import RGB
from semia.labels import ClassIds
from training.interface import SceneGenerator
from training.pixels import picture_from_tensor
from training.tensors import SceneTensors


class Renderer:
    """A generator, in inference mode, with its scene's constants in place."""

    def __init__(self, generator: SceneGenerator, scene: SceneTensors) -> None:
        self._scene = scene
        with torch.no_grad():
            self._synthesise = generator.eval().synthesiser(scene)

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``."""
        with torch.no_grad():
            image = self._synthesise(self._scene.target_ids(target))
        return picture_from_tensor(self._scene.crop(image))

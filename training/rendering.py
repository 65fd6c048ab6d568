"""A generator at work, in PyTorch: the reference that every export is compared with."""

import itertools

import torch

from semia.contact_sheet import Tile, result_sheet
from semia.images import RGB
from semia.labels import ClassIds
from training.interface import SceneGenerator
from training.pixels import picture_from_tensor
from training.scene import Scene
from training.tensors import SceneTensors

SHEET_TARGETS = 5
"""A sample sheet shows at most this many targets."""


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


def sample_sheet(scene: Scene, render: Renderer) -> RGB:
    """The photograph, its labels, the first targets and their pictures, for people to look at."""
    shown = dict(itertools.islice(scene.targets.items(), SHEET_TARGETS))
    return result_sheet(
        Tile("photograph", scene.image),
        Tile("its labels", scene.palette.render(scene.labels)),
        targets={stem: scene.palette.render(ids) for stem, ids in shown.items()},
        results={stem: render(ids) for stem, ids in shown.items()},
    )

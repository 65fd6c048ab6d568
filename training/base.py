"""What both generators share: the interface, the naming of stages for export, and rendering in PyTorch."""

import abc
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.fx.traceback
from torch import Tensor, nn

from semia.core.contact_sheet import Tile, result_sheet
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors, picture_from_tensor

STAGE_KEY = "stage"  # of the annotation that a traced node carries in its ``meta["custom"]``

OnStage = Callable[[str, float], None]
"""Progress of a preparation: the present stage, and the share of the whole
preparation that is done, in [0, 1], which never falls. What it raises ends the preparation."""

SHEET_TARGETS = 5  # a sample sheet shows at most this many targets


@dataclass(frozen=True)
class WorkProgress:
    """How training or preparing gets on."""

    share: float  # of the work that is done, in [0, 1]
    seconds: float  # that it has taken; where a run is trained, in its whole life
    iteration: int = 0  # iterations of training done, likewise
    losses: Mapping[str, float] = field(default_factory=dict)  # of the last iteration
    stage: str = ""  # of the preparation, or of what comes before the iterations

    @property
    def left_s(self) -> float | None:
        """About how many seconds it will go on; None while nothing tells."""
        return self.seconds * (1 / self.share - 1) if self.share > 0 else None


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Whatever is traced within belongs to this stage; of nested ones the innermost counts.

    It changes no result, and nothing at all where nothing is traced.
    """
    with torch.fx.traceback.annotate({STAGE_KEY: name}):
        yield


class SceneGenerator(nn.Module, abc.ABC):
    """One photograph's generator: a layout in, the photograph's content in that layout out.

    Its state dict is all that training or preparing it found: `generator.safetensors` keeps that and nothing else.
    """

    @abc.abstractmethod
    def synthesize(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """Paint layouts.

        Args:
            scene: the scene that the generator was made of, on the generator's device.
            target_ids: padded class ids int64 ``[N, H, W]``, as `SceneTensors.target_ids` makes them.

        Returns:
            Images float32 ``[N, 3, H, W]`` in [-1, 1], not necessarily bounded.
        """

    def synthesizer(self, scene: SceneTensors) -> Callable[[Tensor], Tensor]:
        """`synthesize` for many layouts of one scene: what the photograph alone decides is worked out here, once.

        The generator must not be trained in the meantime.
        """
        return functools.partial(self.synthesize, scene)


class Renderer:
    """A generator, in inference mode, with its scene's constants in place."""

    def __init__(self, generator: SceneGenerator, scene: SceneTensors) -> None:
        self._scene = scene
        with torch.no_grad():
            self._synthesize = generator.eval().synthesizer(scene)

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``."""
        with torch.no_grad():
            image = self._synthesize(self._scene.target_ids(target))
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

"""What every generator can do; nothing downstream of training knows which one it has."""

import abc
import functools
from collections.abc import Callable

from torch import Tensor, nn

from training.tensors import SceneTensors

OnStage = Callable[[str, float], None]
"""Told how a preparation gets on: the stage that begins, or in which there is news, and the share of the whole
preparation that is done, in [0, 1], which never falls. What it raises ends the preparation."""


class SceneGenerator(nn.Module, abc.ABC):
    """One photograph's generator: a layout in, the photograph's content in that layout out.

    Its state dict is all that training or preparing it found: `generator.safetensors` keeps that and nothing else.
    """

    @abc.abstractmethod
    def synthesise(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """Paint layouts.

        Args:
            scene: the scene that the generator was made of, on the generator's device.
            target_ids: padded class ids int64 ``[N, H, W]``, as `SceneTensors.target_ids` makes them.

        Returns:
            Images float32 ``[N, 3, H, W]`` in [-1, 1], not necessarily bounded.
        """

    def synthesiser(self, scene: SceneTensors) -> Callable[[Tensor], Tensor]:
        """`synthesise` for many layouts of one scene: what the photograph alone decides is worked out here, once.

        The generator must not be trained in the meantime.
        """
        return functools.partial(self.synthesise, scene)

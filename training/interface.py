"""What every generator and every trainer can do; nothing downstream of training knows which one it has."""

import abc
import functools
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from training.tensors import SceneTensors


class SceneGenerator(nn.Module, abc.ABC):
    """One photograph's generator: a layout in, the photograph's content in that layout out.

    Its state dict is all that it has learnt: `generator.safetensors` keeps that and nothing else.
    """

    @abc.abstractmethod
    def synthesise(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """Paint layouts.

        Args:
            scene: the scene that the generator was trained on, on the generator's device.
            target_ids: padded class ids int64 ``[N, H, W]``, as `SceneTensors.target_ids` makes them.

        Returns:
            Images float32 ``[N, 3, H, W]`` in [-1, 1], not necessarily bounded.
        """

    def synthesiser(self, scene: SceneTensors) -> Callable[[Tensor], Tensor]:
        """`synthesise` for many layouts of one scene: what the photograph alone decides is worked out here, once.

        The generator must not learn in the meantime.
        """
        return functools.partial(self.synthesise, scene)


class Trainer(Protocol):
    """A generator in training, with all that it takes."""

    def iterate(self, iteration: int, progress: float) -> dict[str, float]:
        """Run one iteration.

        Args:
            iteration: its number, from 0; everything random in it is seeded from this.
            progress: the share of the run that was done before it, in [0, 1]; the schedules depend on this.

        Returns:
            The losses by name, unweighted.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on: tensors and numbers, loadable with ``weights_only``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        ...

    def finished_generator(self) -> SceneGenerator:
        """A copy of the generator as it would be used if training ended now, in inference mode.

        Training goes on as if this had not been called.
        """
        ...

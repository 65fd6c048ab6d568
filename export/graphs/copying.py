"""The copying generator's synthesis graph: all that may be copied is worked out beforehand and stored."""

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from semia.training.base import stage
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.levels import CopiedColors
from semia.training.copying.painting import paint
from semia.training.tensors import SceneTensors


class CopyingGraph(nn.Module):
    """A copying generator bound to its scene; exported as it stands."""

    def __init__(self, generator: CopyingGenerator, scene: SceneTensors) -> None:
        """Work out what may be copied.

        Args:
            generator: prepared, or loaded.
            scene: the one that it was built for, on the CPU.
        """
        super().__init__()
        self.canvas = scene.canvas
        self.generator = copy.deepcopy(generator).eval()
        self.tables = self.generator.tables()
        for number, level in enumerate(self.tables):
            for name, values in _tensors(level).items():
                self.register_buffer(f"size_{number}_{name}", values)
        self.register_buffer("softness", self.generator.softness)
        # What the tables were made of would only make the file larger.
        for name, _ in list(self.generator.named_buffers(recurse=False)):
            delattr(self.generator, name)

    def forward(self, target_labels: Tensor) -> Tensor:
        """Class ids ``uint8[N, H, W]`` on the canvas to pictures ``uint8[N, H, W, 3]``."""
        padded = self.generator.sizes
        with stage("layout"):
            class_ids = _extended(_extended(target_labels.long(), 1, padded.height), 2, padded.width)
        with stage("stored tables"):
            sizes, whole = self.generator.ready([self._stored(number) for number in range(len(self.tables))])
        levels = paint(class_ids, self.generator.classes, sizes, whole, self.get_buffer("softness"))
        with stage("pixels"):
            # Bytes last: TensorRT transposes none.
            picture = levels[:, :, : self.canvas.height, : self.canvas.width].permute(0, 2, 3, 1)
            return picture.to(torch.uint8)

    def _stored(self, number: int) -> CopiedColors:
        tables = self.tables[number]
        names = _tensors(tables)
        stored: dict[str, Any] = {name: self.get_buffer(f"size_{number}_{name}") for name in names}
        return dataclasses.replace(tables, **stored)


def _tensors(tables: CopiedColors) -> dict[str, Tensor]:
    return {name: values for name, values in vars(tables).items() if isinstance(values, Tensor)}


def _extended(x: Tensor, axis: int, length: int) -> Tensor:
    """The last row or column repeated to a length; looking up whole pictures of single numbers would be slow."""
    edge = x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([x, edge.repeat_interleave(length - x.shape[axis], axis)], dim=axis)

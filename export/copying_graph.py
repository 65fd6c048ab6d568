"""The copying generator's synthesis graph: all that may be copied is worked out beforehand and stored."""

import copy

import torch
from torch import Tensor, nn

from training.composition import Photograph
from training.context_encoder import DESCRIPTOR_STEPS
from training.copying_generator import CopyingGenerator
from training.pixels import pixels_from_tensor
from training.source_tokens import SourceTokens
from training.square_tables import squares
from training.stages import stage
from training.tensors import SceneTensors

PICTURES = ("layers", "remainder")
"""A photograph's tables that are `squares` of pictures."""


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
        self.generator = copy.deepcopy(generator).eval().requires_grad_(False)
        with torch.no_grad():
            sources, photograph = self.generator.source_tokens(), self.generator.photograph()
        for level, source in enumerate(sources):
            self._store(f"source_{level}_", source)
            # Multiples of a small step: 16 bits hold them, and ONNX Runtime widens them once, at loading.
            self.register_buffer(f"source_{level}_descriptors", (source.descriptors * DESCRIPTOR_STEPS).to(torch.int16))
        self._store("photograph_", photograph)
        # A quarter of the tables, in bytes; ONNX Runtime makes them whole once, at loading.
        for name in PICTURES:
            first = getattr(photograph, name)[:, :3]
            self.register_buffer(f"photograph_{name}", first.reshape(-1, *photograph.size, 3).contiguous())
        self.strides, self.counts = [source.stride for source in sources], [source.counts for source in sources]
        self.size = photograph.size

    def forward(self, target_labels: Tensor) -> Tensor:
        """Class ids ``uint8[N, H, W]`` on the canvas to pictures ``uint8[N, H, W, 3]``."""
        with stage("layout"):
            padded = _extended(_extended(target_labels.long(), 1, self.size[0]), 2, self.size[1])
        with stage("stored tables"):
            sources, photograph = [self._source(level) for level in (0, 1)], self._photograph()
        image = self.generator.copy(padded, sources, photograph)
        with stage("pixels"):
            return pixels_from_tensor(image[:, :, : self.canvas.height, : self.canvas.width])

    def _source(self, level: int) -> SourceTokens:
        tables = self._stored(f"source_{level}_")
        tables["descriptors"] = tables["descriptors"].float() / DESCRIPTOR_STEPS
        return SourceTokens(stride=self.strides[level], counts=self.counts[level], **tables)

    def _photograph(self) -> Photograph:
        tables = self._stored("photograph_")
        # TensorRT looks nothing up in tables of bytes. Whole numbers up to 2048 are exact in half precision.
        tables.update({name: squares(tables[name].half()) for name in PICTURES})
        return Photograph(size=self.size, **tables)

    def _store(self, prefix: str, tables: SourceTokens | Photograph) -> None:
        for name, values in vars(tables).items():
            if isinstance(values, Tensor):
                self.register_buffer(prefix + name, values)

    def _stored(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): values for name, values in self.named_buffers() if name.startswith(prefix)}


def _extended(x: Tensor, axis: int, length: int) -> Tensor:
    """The last row or column repeated to a length; looking up whole pictures of single numbers would be slow."""
    edge = x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([x, edge.repeat_interleave(length - x.shape[axis], axis)], dim=axis)

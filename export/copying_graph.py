"""The copying generator's synthesis graph: all that may be copied is worked out beforehand and stored."""

import copy

import torch
from torch import Tensor, nn

from training.composition import Photograph
from training.copying_generator import CopyingGenerator
from training.pixels import pixels_from_tensor
from training.source_tokens import SourceTokens
from training.tensors import SceneTensors


class CopyingGraph(nn.Module):
    """A copying generator bound to its scene; exported as it stands."""

    rows: Tensor
    columns: Tensor

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
        # The scene was padded once to the trainer's multiple, then again to the generator's own.
        height, width = photograph.size
        self.register_buffer("rows", torch.arange(height).clamp(max=self.canvas.height - 1))
        self.register_buffer("columns", torch.arange(width).clamp(max=self.canvas.width - 1))
        for level, source in enumerate(sources):
            for name, values in source.tensors().items():
                self.register_buffer(f"source_{level}_{name}", values)
        self.size = photograph.size
        for name, values in vars(photograph).items():
            if name != "size":
                self.register_buffer(f"photograph_{name}", values)

    def forward(self, target_labels: Tensor) -> Tensor:
        """Class ids ``uint8[N, H, W]`` on the canvas to pictures ``uint8[N, H, W, 3]``."""
        padded = target_labels.long().index_select(1, self.rows).index_select(2, self.columns)
        sources = [SourceTokens(**self._stored(f"source_{level}_")) for level in (0, 1)]
        photograph = Photograph(size=self.size, **self._stored("photograph_"))
        image = self.generator.copy(padded, sources, photograph)
        return pixels_from_tensor(image[:, :, : self.canvas.height, : self.canvas.width])

    def _stored(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): values for name, values in self.named_buffers() if name.startswith(prefix)}

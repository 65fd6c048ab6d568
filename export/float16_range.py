"""Generators beyond float16's range, brought into it by powers of two.

Without a limit, feature ratios make gammas of thousands to millions, and modulation hands on more than float16 can
hold. Convolutions, their folded norms and LeakyReLU are homogeneous: what enters and every bias divided by a
power of two, what leaves is divided by just that, to the last bit. Between two modulations a generator is
nothing else, so that each such part computes in a range of its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semia.labels import ClassIds

LARGEST = 65504.0
"""What float16 can hold."""

LAYOUTS_MAY_EXCEED = 64.0
"""How many times as much as in the measured layouts may enter a part; anything beyond is cut off there."""

PARTS_MAY_EXCEED = 4.0
"""How many times as much as measured may become of the same entering values inside a part."""


class Rescale(nn.Module):
    """A product with a power of two, of what lies within a limit."""

    def __init__(self, factor: float, limit: float = math.inf) -> None:
        super().__init__()
        self.factor, self.limit = factor, limit

    def forward(self, x: Tensor) -> Tensor:
        """Float32 of any shape."""
        if self.limit < math.inf:
            x = x.clamp(-self.limit, self.limit)
        return x if self.factor == 1 else x * self.factor


class Range:
    """The largest values that entered a part and that it computed, in magnitude."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        """Watch parts that follow one another from now on, until `close`."""
        self.entering = self.largest = 0.0
        self._handles = [parts[0].register_forward_pre_hook(self._enter)]
        self._handles += [layer.register_forward_hook(self._leave) for part in parts for layer in part.modules()]

    def close(self) -> None:
        """Watch no longer."""
        for handle in self._handles:
            handle.remove()

    @property
    def factor(self) -> float:
        """The power of two, at most 1, that brings all into float16's range with room to spare."""
        room = LARGEST / (LAYOUTS_MAY_EXCEED * PARTS_MAY_EXCEED)
        return 2.0 ** min(0, math.floor(math.log2(room / max(self.entering, self.largest, 1.0))))

    @property
    def limit(self) -> float:
        """What enters is cut off at this."""
        return LAYOUTS_MAY_EXCEED * self.entering

    def _enter(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.entering = max(self.entering, float(inputs[0].abs().max()))

    def _leave(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.largest = max(self.largest, float(output.abs().max()))


def measure_ranges(graph: nn.Module, chains: Sequence[Sequence[nn.Module]], layouts: Sequence[ClassIds]) -> list[Range]:
    """Draw layouts, ``uint8[H, W]`` each, and return what became of each chain of parts."""
    ranges = [Range(parts) for parts in chains]
    try:
        with torch.no_grad():
            for layout in layouts:
                graph(torch.from_numpy(layout.copy()).unsqueeze(0))
    finally:
        for found in ranges:
            found.close()
    return ranges


def multiply_biases(part: nn.Module, factor: float) -> None:
    """Multiply the biases of a part without norms, so that it takes and gives values multiplied by ``factor``."""
    with torch.no_grad():
        for layer in part.modules():
            bias = getattr(layer, "bias", None)
            if isinstance(bias, Tensor):
                bias.mul_(factor)

"""Places in a photograph's variants, as numbers: going a step on is adding a constant."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """How the pixels of V pictures of one size are numbered.

    Row by row, one picture after another, each with a margin around it: whatever is looked up at most a margin's
    width beyond a picture's edge still belongs to that picture.
    """

    variants: int
    height: int
    width: int
    margin: int

    @property
    def stride(self) -> int:
        """From a place to the one below it."""
        return self.width + 2 * self.margin

    @property
    def rows(self) -> int:
        """Of one picture, its margin included."""
        return self.height + 2 * self.margin

    @property
    def area(self) -> int:
        """Places of one picture, its margin included."""
        return self.stride * self.rows

    @property
    def pixels(self) -> int:
        """Of one picture, without its margin."""
        return self.height * self.width

    def inside(self) -> Tensor:
        """The places within the pictures, int32 ``[V, height * width]``."""
        rows = torch.arange(self.height)[:, None] + self.margin
        columns = torch.arange(self.width) + self.margin
        first = (rows * self.stride + columns).flatten()
        return (first + torch.arange(self.variants)[:, None] * self.area).int()

    def table(self, pictures: Tensor) -> Tensor:
        """Pictures ``[V, C, height, width]`` as rows ``[V * area, C]``, margins repeating the edges."""
        padded = F.pad(pictures.float(), (self.margin,) * 4, mode="replicate")
        return padded.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1])


@dataclass(frozen=True)
class Windows:
    """Which pixels lie so many steps around others: made once, looked up often."""

    index: Tensor  # int32 [S * P]: into the canvas with a border of `reach` around it
    steps: int  # S
    reach: int

    @classmethod
    def around(cls, pixels: Tensor, width: int, steps: Sequence[tuple[int, int]]) -> "Windows":
        """Look so many steps down and right of pixels.

        Args:
            pixels: numbers of P pixels, counted row by row, int32 ``[P]``.
            width: of the canvas.
            steps: S of them.
        """
        reach = max(max(abs(down), abs(right)) for down, right in steps)
        stride = width + 2 * reach
        rows = quotient(pixels, width)
        first = rows * stride + (pixels - rows * width) + reach * (stride + 1)
        moves = int_column([down * stride + right for down, right in steps], pixels.device)
        return cls((moves + first).flatten(), len(steps), reach)

    def of(self, values: Tensor, beyond: float) -> Tensor:
        """Look values ``[N, h, w]`` of any dtype up, ``[N, S, P]``; off the canvas all are ``beyond``."""
        padded = F.pad(values, (self.reach,) * 4, value=beyond).flatten(1)
        return padded.index_select(1, self.index).view(-1, self.steps, self.index.shape[0] // self.steps)


def int_column(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Numbers as int32 ``[S, 1]``."""
    # Filled in where they are: a copy from the host's memory cannot be recorded in a CUDA graph.
    return torch.cat([torch.full((1, 1), number, dtype=torch.int32, device=device) for number in numbers])


def quotient(numbers: Tensor, divisor: int) -> Tensor:
    """Numbers int32, at least 0, divided by another, rounded down.

    Exact below 2 ** 24, by way of float32: ONNX Runtime would divide integers by as many steps again.
    """
    return (numbers.float() / divisor).floor().int()

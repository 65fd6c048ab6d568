"""Places in a photograph's variants, as numbers: going a step on is adding a constant."""

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


def neighbors(height: int, width: int, steps: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Which pixel lies so many steps down and right of each, and whether the canvas has it.

    Returns:
        int64 ``[S, height * width]``, the pixel's own number where the canvas ends before; bool of the same shape.
    """
    moves = torch.tensor(steps)
    rows = torch.arange(height)[None, :, None] + moves[:, 0, None, None]
    columns = torch.arange(width)[None, None, :] + moves[:, 1, None, None]
    there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    own = torch.arange(height * width).view(1, height, width)
    return torch.where(there, rows * width + columns, own).flatten(1), there.flatten(1)

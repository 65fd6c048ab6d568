"""Pictures as tables whose rows are 2x2 squares of pixels: one look-up is all that a bilinear sample needs."""

import torch
import torch.nn.functional as F
from torch import Tensor


def squares(pictures: Tensor) -> Tensor:
    """Every pixel with its neighbours to the right and below; at the edges, the edge itself.

    Args:
        pictures: ``[..., H, W, C]`` of any dtype.

    Returns:
        ``[... * H * W, 4 * C]``: upper left, upper right, lower left, lower right.
    """
    lower = torch.cat([pictures[..., 1:, :, :], pictures[..., -1:, :, :]], dim=-3)
    rows = torch.stack([pictures, lower], dim=-2)
    right = torch.cat([rows[..., 1:, :, :], rows[..., -1:, :, :]], dim=-3)
    return torch.stack([rows, right], dim=-2).flatten(-3).flatten(0, -2)


def sample(table: Tensor, y: Tensor, x: Tensor, width: int, first: Tensor | int = 0) -> Tensor:
    """Sample pictures bilinearly; exact at whole pixels.

    Args:
        table: `squares` of one picture, or of several in a row.
        y: vertical places ``[N, H, W]`` in [0, height - 1], in pixels.
        x: horizontal places.
        width: of a picture.
        first: number of the first row of the picture to sample from, for every place or for all.

    Returns:
        float32 ``[N, C, H, W]``.
    """
    top, left = y.floor(), x.floor()
    down, right = (y - top)[:, None], (x - left)[:, None]
    # Whole numbers below 2 ** 24 are exact in float32 too, where they are computed faster.
    corners = look_up(table, (top * width + left).long() + first).float()
    upper_left, upper_right, lower_left, lower_right = corners.chunk(4, dim=1)
    above = upper_left + (upper_right - upper_left) * right
    below = lower_left + (lower_right - lower_left) * right
    return above + (below - above) * down


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``[P, C]`` at indices ``[N, H, W]``, as ``[N, C, H, W]``; plain indexing would be a far slower operator."""
    # Flattened, since ONNX Runtime is slow to transpose what has more dimensions.
    rows = F.embedding(index.flatten(1), table)
    return rows.transpose(1, 2).reshape(index.shape[0], table.shape[1], *index.shape[1:])

"""Which tokens lie beside which on a grid."""

from collections.abc import Sequence

import torch
from torch import Tensor


def beside(shape: tuple[int, int], steps: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Numbers of the tokens that lie so many steps down and right; beyond the grid's edge, those at the edge.

    Args:
        shape: the grid's h and w; its tokens are numbered row by row.
        steps: S of them, (down, right).
        device: of the result.

    Returns:
        int64 ``[S, h, w]``.
    """
    h, w = shape
    moves = torch.tensor(steps, device=device)
    rows = (torch.arange(h, device=device) + moves[:, :1]).clamp(0, h - 1)
    columns = (torch.arange(w, device=device) + moves[:, 1:]).clamp(0, w - 1)
    return rows[:, :, None] * w + columns[:, None, :]

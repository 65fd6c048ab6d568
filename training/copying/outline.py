"""Where a pixel lies between the ends of its piece: the same in small, wide and narrow copies of a shape.

Class shares in windows of fixed widths say how far the outline is, in pixels; in a face of half the width, the eyes
are nearer to it than anywhere in the photograph. Halfway from the cheek to the nose they are in both.
"""

import torch
from torch import Tensor


def relative_positions(class_ids: Tensor) -> Tensor:
    """Each pixel's position along the row and the column of its class that it lies in.

    Args:
        class_ids: ``[N, h, w]``.

    Returns:
        float32 ``[N, 2, h, w]``, above -1 at the upper and left ends, 0 in the middle, below 1 at the others.
    """
    along_rows = _along_rows(class_ids)
    return torch.stack([_along_rows(class_ids.transpose(1, 2)).transpose(1, 2), along_rows], dim=1)


def _along_rows(class_ids: Tensor) -> Tensor:
    """The part of `relative_positions` along rows, float32 ``[N, h, w]``."""
    width = class_ids.shape[2]
    columns = torch.arange(width, device=class_ids.device)
    changes = (class_ids[:, :, 1:] != class_ids[:, :, :-1]).float()
    edge = torch.ones_like(class_ids[:, :, :1]).float()
    # A run's first pixel, and its last, counted from the other side: the nearest ones that are no farther on.
    first = torch.cat([edge, changes], dim=2) * columns
    last = torch.cat([changes, edge], dim=2) * columns.flip(0)
    before = (columns <= columns[:, None]).float()
    left = columns - (first[:, :, None] * before).amax(3)
    right = columns.flip(0) - (last[:, :, None] * before.T).amax(3)
    return (left - right) / (left + right + 1)

"""Places that look alike: where the photograph has a patch once more, a search that is stuck may go on.

(Known as k-coherence: Tong et al. 2002.)
"""

import torch
from torch import Tensor

from semia.training.copying.grid import Grid
from semia.training.copying.levels import wanted_rows

SIMILAR = 2
"""Places of the plain photograph that are remembered for each place."""

APART = 4
"""Pixels, at most, along rows and columns that are too near to count as another place."""

COSTS_AT_ONCE = 8_000_000


def similar_places(rows: Tensor, grid: Grid) -> Tensor:
    """For each place within the pictures the nearest, and the next, among all others of the plain photograph.

    Only every second place of every second row is looked at; beside it, what is similar goes on as it does.

    Args:
        rows: as `cost_rows` gives them, ``[places, 1 + D]``.
        grid: which numbers the places.

    Returns:
        Places, int32 ``[V, SIMILAR, height, width]``; steps from the edge may lead into the margin.
    """
    inside = grid.inside().view(grid.variants, grid.height, grid.width)
    asked = inside[:, ::2, ::2].flatten().long()
    beside = torch.zeros_like(rows[:1])
    beside[:, 0] = torch.inf
    known = torch.cat([rows[inside[0].flatten().long()], beside])
    at_once = max(1, COSTS_AT_ONCE // grid.pixels)
    found = torch.cat([_nearest(rows, known, part, grid) for part in torch.split(asked, at_once)])
    found = found.view(grid.variants, *inside[0, ::2, ::2].shape, SIMILAR).permute(0, 3, 1, 2)
    enlarged = found.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : grid.height, : grid.width]
    down, right = torch.arange(grid.height) % 2, torch.arange(grid.width) % 2
    return (enlarged + down[:, None] * grid.stride + right).int()


def _nearest(rows: Tensor, known: Tensor, asked: Tensor, grid: Grid) -> Tensor:
    """`similar_places` of places int64 ``[Q]``, ``[Q, SIMILAR]``; known has a row beside the photograph."""
    costs = wanted_rows(rows[None, asked, 1:] / -2)[0] @ known.T
    steps = torch.arange(-APART, APART + 1)
    near, found = asked, []
    for _ in range(SIMILAR):
        down = (near // grid.stride - grid.margin)[:, None, None] + steps[:, None]
        right = (near % grid.stride - grid.margin)[:, None, None] + steps
        # No place of a variant is near to one of the photograph.
        inside = (down >= 0) & (down < grid.height) & (right >= 0) & (right < grid.width)
        excluded = torch.where(inside, down * grid.width + right, grid.pixels)
        costs.scatter_(1, excluded.flatten(1), torch.inf)
        index = costs.argmin(1)
        near = (index // grid.width + grid.margin) * grid.stride + index % grid.width + grid.margin
        found.append(near)
    return torch.stack(found, dim=1)

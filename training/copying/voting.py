"""A picture from choices: each pixel's color is voted on by the patches that lie over it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.copying.descriptors import rounded
from training.copying.grid import Grid

TAPS_AT_ONCE = 300_000
"""Votes, at most, that are held at a time: more do not fit into a processor's cache."""

BEST_QUALITY = 64.0
"""Votes of the best match; whole numbers, so that sums of votes times levels stay below 2 ** 24."""


def quality_of(distances: Tensor, tolerance: float) -> Tensor:
    """How much a match's votes count, whole numbers in [1, `BEST_QUALITY`], from its squared distance.

    Args:
        distances: whole numbers, of any shape, at least 0.
        tolerance: a power of two; at this distance a vote counts a quarter.
    """
    closeness = distances / tolerance + 1
    return torch.floor((BEST_QUALITY - 1) / (closeness * closeness)) + 1


def window_weights(side: int) -> list[list[float]]:
    """Votes of a patch by where in it a pixel lies: a Gaussian in whole numbers, 64 at the center."""
    distance = torch.arange(side) - side // 2
    gaussian = torch.exp(-(distance**2) / (2 * (side / 3) ** 2))
    weights: list[list[float]] = rounded(gaussian[:, None] * gaussian * 64).tolist()
    return weights


def vote(
    chosen: Tensor,
    quality: Tensor,
    colors: Tensor,
    grid: Grid,
    *,
    side: int,
    spread: int = 1,
    class_ids: Tensor | None = None,
) -> Tensor:
    """Average what the patches over each pixel copy there.

    Args:
        chosen: places, int32 ``[N, h, w]``.
        quality: how much each pixel's patch counts, whole numbers ``[N, h, w]``.
        colors: `CopiedColors.widened`.
        grid: which numbers the places.
        side: pixels of a patch that vote, along its side, odd.
        spread: pixels from one of them to the next.
        class_ids: float32 ``[N, h, w]``; where given, only votes of a pixel's own class count; if there is none, the
            pixel's own choice does.

    Returns:
        Whole levels, float32 ``[N, 3, h, w]``.
    """
    count, height, width = chosen.shape
    pixels = height * width
    reach = side // 2 * spread
    # Beyond the canvas nothing votes; the place there only has to exist.
    padded = F.pad(chosen, (reach,) * 4, value=grid.margin * (grid.stride + 1))
    padded_quality = F.pad(quality, (reach,) * 4)
    weights = window_weights(side)
    taps = [(down, right) for down in range(side) for right in range(side)]
    group = max(1, min(len(taps), TAPS_AT_ONCE // pixels))
    total = votes = torch.zeros(1)
    for first in range(0, len(taps), group):
        copied, counted = [], []
        for down, right in taps[first : first + group]:
            rows, columns = down * spread, right * spread
            steps = (rows - reach) * grid.stride + columns - reach
            window = (slice(None), slice(rows, rows + height), slice(columns, columns + width))
            copied.append(padded[window].reshape(count, pixels) - steps)
            counted.append(padded_quality[window].reshape(count, pixels) * weights[down][right])
        seen = look_up(colors, torch.cat(copied, dim=1)).view(count, 4, len(copied), pixels)
        counts = torch.stack(counted, dim=1)
        if class_ids is not None:
            counts = counts * (seen[:, 3] == class_ids.reshape(count, 1, pixels)).float()
        total = total + (seen[:, :3] * counts[:, None]).sum(2)
        votes = votes + counts.sum(1)
    if class_ids is None:
        picture = rounded(total / votes[:, None])
    else:
        own = look_up(colors, chosen.reshape(count, pixels))[:, :3]
        anything = votes[:, None] > 0
        picture = torch.where(anything, rounded(total / torch.where(anything, votes[:, None], 1.0)), own)
    return picture.view(count, 3, height, width)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``[places, C]`` at indices ``[N, P]``, as planes ``[N, C, P]``."""
    return F.embedding(index, table).transpose(1, 2)

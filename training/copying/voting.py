"""A picture from choices: each pixel's color is voted on by the patches that lie over it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.copying.descriptors import rounded
from training.copying.grid import Grid

SPREAD = 2
"""Pixels from the center of a patch to those of its pixels that vote; with the center they are nine."""

WEIGHTS = (5.0, 8.0, 5.0)
"""Of their votes, along each side of the square that they form."""

VOTES_AT_ONCE = 600_000
"""At most so many are held at a time: more do not fit into a processor's cache."""

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


def vote(chosen: Tensor, quality: Tensor, colors: Tensor, grid: Grid, class_ids: Tensor) -> Tensor:
    """Average what the patches over each pixel copy there.

    Only what has the pixel's own class counts: borders are where the layout has them. If there is no such vote, the
    pixel is what it copies itself.

    Args:
        chosen: places, int32 ``[N, h, w]``.
        quality: how much each pixel's patch counts, whole numbers ``[N, h, w]``.
        colors: `CopiedColors.widened`.
        grid: which numbers the places; its margin is at least `SPREAD`.
        class_ids: float32 ``[N, h, w]``.

    Returns:
        Whole levels, float32 ``[N, 3, h, w]``.
    """
    height, width = chosen.shape[1:]
    pixels = height * width
    # Beyond the canvas nothing votes; the place there only has to exist.
    padded = F.pad(chosen, (SPREAD,) * 4, value=grid.margin * (grid.stride + 1))
    padded_quality = F.pad(quality, (SPREAD,) * 4)
    taps = [(down, right) for down in range(len(WEIGHTS)) for right in range(len(WEIGHTS))]
    group = max(1, min(len(taps), VOTES_AT_ONCE // pixels))
    own_class = class_ids.view(-1, 1, pixels)
    totals, counts = [], []
    for first in range(0, len(taps), group):
        copied, counted = [], []
        for down, right in taps[first : first + group]:
            rows, columns = SPREAD * down, SPREAD * right
            step = (rows - SPREAD) * grid.stride + columns - SPREAD
            window = (slice(None), slice(rows, rows + height), slice(columns, columns + width))
            copied.append(padded[window] - step)
            counted.append(padded_quality[window] * (WEIGHTS[down] * WEIGHTS[right]))
        # Planes of red, green, blue and class ids, since arithmetic on whole planes is far faster than on rows.
        seen = look_up(colors, torch.stack(copied, dim=1).flatten(1)).view(-1, 4, len(copied), pixels)
        votes = torch.stack(counted, dim=1).flatten(2) * (seen[:, 3] == own_class).float()
        totals.append((seen[:, :3] * votes[:, None]).sum(2))
        counts.append(votes.sum(1, keepdim=True))
    total, count = sum(totals[1:], totals[0]), sum(counts[1:], counts[0])
    own = look_up(colors, chosen.flatten(1))[:, :3]
    picture = torch.where(count > 0, rounded(total / count.clamp(min=1)), own)
    return picture.view(-1, 3, height, width)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``[places, C]`` at indices ``[N, P]``, as planes ``[N, C, P]``."""
    return F.embedding(index, table).transpose(1, 2)

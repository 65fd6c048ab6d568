"""A picture from choices: each pixel's color is voted on by the patches that lie over it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying.descriptors import rounded
from semia.training.copying.grid import Grid, Windows, int_column

SPREAD = 2
"""Pixels from the center of a patch to those of its pixels that vote; with the center they are nine."""

TAPS = [(down, right) for down in (-SPREAD, 0, SPREAD) for right in (-SPREAD, 0, SPREAD)]
WEIGHTS = {-SPREAD: 5, 0: 8, SPREAD: 5}
"""Of their votes, by the steps down or right; both are multiplied."""

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


@dataclass(frozen=True)
class Ballot:
    """All that voting takes at one size: made once, before layouts come."""

    colors: Tensor  # `CopiedColors.widened`
    height: int
    width: int
    beyond: int  # a place that exists, for what lies beyond the canvas and does not vote
    groups: tuple[tuple[Windows, Tensor, Tensor], ...]  # of taps, the steps to what they copy here, their weights

    @classmethod
    def of(cls, grid: Grid, colors: Tensor) -> "Ballot":
        """Make it for a size.

        Args:
            grid: which numbers the places; its margin is at least `SPREAD`.
            colors: `CopiedColors.widened`.
        """
        pixels = torch.arange(grid.pixels, dtype=torch.int32, device=colors.device)
        size = max(1, min(len(TAPS), VOTES_AT_ONCE // grid.pixels))
        groups = []
        for first in range(0, len(TAPS), size):
            taps = TAPS[first : first + size]
            steps = int_column([down * grid.stride + right for down, right in taps], pixels)
            weights = int_column([WEIGHTS[down] * WEIGHTS[right] for down, right in taps], pixels).float()
            groups.append((Windows.around(pixels, grid.width, taps), steps, weights))
        return cls(colors, grid.height, grid.width, grid.margin * (grid.stride + 1), tuple(groups))


def vote(chosen: Tensor, quality: Tensor, class_ids: Tensor, anchors: Tensor, ballot: Ballot) -> Tensor:
    """Average what the patches over each pixel copy there.

    Only what has the pixel's own class counts: borders are where the layout has them. If there is no such vote, the
    pixel copies its class's anchor.

    Args:
        chosen: places, int32 ``[N, h, w]``.
        quality: how much each pixel's patch counts, whole numbers ``[N, h, w]``.
        class_ids: float32 ``[N, h, w]``.
        anchors: places to copy where nothing of a pixel's class is voted for, int32 ``[N, h * w]``.
        ballot: of this size.

    Returns:
        Whole levels, float32 ``[N, 3, h, w]``.
    """
    own_class = class_ids.flatten(1)[:, None]
    totals, counts = [], []
    for window, steps, weights in ballot.groups:
        copied = window.of(chosen, ballot.beyond) - steps
        # Planes of red, green, blue and class ids, since arithmetic on whole planes is far faster than on rows.
        seen = look_up(ballot.colors, copied.flatten(1)).view(-1, 4, window.steps, ballot.height * ballot.width)
        votes = window.of(quality, 0.0) * weights * (seen[:, 3] == own_class).float()
        totals.append((seen[:, :3] * votes[:, None]).sum(2))
        counts.append(votes.sum(1, keepdim=True))
    total, count = sum(totals[1:], totals[0]), sum(counts[1:], counts[0])
    anchored = look_up(ballot.colors, anchors)[:, :3]
    picture = torch.where(count > 0, rounded(total / count.clamp(min=1)), anchored)
    return picture.view(-1, 3, ballot.height, ballot.width)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``[places, C]`` at indices ``[N, P]``, as planes ``[N, C, P]``."""
    return F.embedding(index, table).transpose(1, 2)

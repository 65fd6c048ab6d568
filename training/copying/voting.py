"""A picture from choices: each pixel's color is voted on by the patches that lie over it."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying.descriptors import rounded
from semia.training.copying.grid import int_column
from semia.training.copying.levels import CopiedColors, in_places, squares_of, widened
from semia.training.copying.outline import AGREED

WEIGHTS = (5, 8, 5)
"""Of a patch's nine votes, by their rows and by their columns; both are multiplied."""

NUMBERS_AT_ONCE = 1_000_000
"""Of looked up colors and class ids: more do not fit into a processor's cache."""

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

    tables: CopiedColors
    colors: Tensor  # float32 [places, 4 * S]: `CopiedColors.colors`
    anchor_colors: Tensor  # float32 [K * squares, 3]
    light: Tensor  # float32 [L, 3, S, P]: `CopiedColors.light`
    squares: Tensor  # int64 [S, P]: which square of anchors a pixel lies in
    beyond: int  # a place that exists, for what lies beyond the canvas and does not vote
    rows: Tensor  # int32 [3 * h]: of the canvas with a border, those above, at, and below every row
    steps: Tensor  # int32 [9, 1]: to a patch's pixels that vote, column by column
    weights: Tensor  # float32 [9, 1]: of their votes

    @classmethod
    def of(cls, tables: CopiedColors) -> "Ballot":
        """Make it for a size.

        Args:
            tables: of that size; their grid's margin is at least the spread of the votes.
        """
        grid, spread, device = tables.grid, tables.spread, tables.colors.device
        away = (-spread, 0, spread)
        rows = torch.arange(grid.height, dtype=torch.int32, device=device) + int_column([0, spread, 2 * spread], device)
        steps = int_column([down * grid.stride + right for right in away for down in away], device)
        weights = int_column([horizontal * vertical for horizontal in WEIGHTS for vertical in WEIGHTS], device)
        squares = squares_of(grid.height * tables.side, grid.width * tables.side).to(device)
        return cls(
            tables=tables,
            colors=widened(tables.colors),
            anchor_colors=widened(tables.anchor_colors).flatten(0, 1),
            light=in_places(tables.light.float(), tables.side),
            squares=in_places(squares[None, None], tables.side)[0, 0],
            beyond=grid.margin * (grid.stride + 1),
            rows=rows.flatten(),
            steps=steps,
            weights=weights.float(),
        )

    def anchors_at(self, class_ids: Tensor) -> Tensor:
        """Which anchor pixels with class ids int64 ``[N, S, P]`` have, counted class by class, of the same shape."""
        return class_ids * self.tables.anchor_colors.shape[1] + self.squares

    def anchored(self, anchors: Tensor) -> Tensor:
        """What pixels copy if nobody votes for them, ``[N, 3, S, P]``, where `anchors_at` gives their anchors."""
        return look_up(self.anchor_colors, anchors.flatten(1)).view(-1, 3, *self.squares.shape)

    def light_at(self, class_ids: Tensor) -> Tensor:
        """Levels that are added to what pixels with class ids int64 ``[N, S, P]`` copy, float32 ``[N, 3, S, P]``."""
        lit = torch.zeros_like(class_ids[:, None], dtype=torch.float32)
        for class_id, light in zip(self.tables.lit, self.light, strict=True):
            lit = torch.where(class_ids[:, None] == class_id, light, lit)
        return lit

    def lit(self, picture: Tensor, light: Tensor) -> Tensor:
        """Levels ``[N, 3, S, P]`` with the light that `light_at` gives."""
        return (picture + light).clamp(0, 255) if self.tables.lit else picture

    def shifted(self, values: Tensor, beyond: float) -> Tensor:
        """Values ``[N, h, w]`` of the nine patches that vote on each place, ``[N, 9, P]``; else ``beyond``."""
        spread, grid = self.tables.spread, self.tables.grid
        # Whole rows, then whole columns: to look pixels up one by one takes many times as long.
        padded = F.pad(values, (spread,) * 4, value=beyond).index_select(1, self.rows)
        columns = [padded[:, :, first : first + grid.width] for first in (0, spread, 2 * spread)]
        return torch.cat(columns, dim=1).view(-1, 9, grid.pixels)


class Vote(NamedTuple):
    """What the patches over each pixel make of it; each of P places stands for S pixels."""

    picture: Tensor  # whole levels within [0, 255], float32 [N, 3, S, P]
    agreement: Tensor  # how far they have the pixel's class, whole numbers up to `AGREED`, float32 [N, 1, S, P]


def vote(chosen: Tensor, quality: Tensor, own_class: Tensor, anchored: Tensor, light: Tensor, ballot: Ballot) -> Vote:
    """Average what the patches over each pixel copy there.

    Only what has the pixel's own class counts: borders are where the layout has them. If there is no such vote, the
    pixel copies its class's anchor. Each place stands for S pixels, which copy what belongs together.

    Args:
        chosen: places, int32 ``[N, h, w]``.
        quality: how much each place's patch counts, whole numbers ``[N, h, w]``.
        own_class: float32 ``[N, S, P]``.
        anchored: what a pixel copies then, as `Ballot.anchored` gives it, ``[N, 3, S, P]``.
        light: of the pixels, as `Ballot.light_at` gives it, ``[N, 3 or 1, S, P]``.
        ballot: of this size.
    """
    copied = ballot.shifted(chosen, ballot.beyond) - ballot.steps
    counted = ballot.shifted(quality, 0.0) * ballot.weights
    group = 9 if 9 * ballot.colors.shape[1] * copied.shape[2] <= NUMBERS_AT_ONCE else 3
    totals, counts = [], []
    for places, weights in zip(torch.split(copied, group, 1), torch.split(counted, group, 1), strict=True):
        # Planes of red, green, blue and class ids, since arithmetic on whole planes is far faster than on rows.
        seen = look_up(ballot.colors, places.flatten(1)).view(-1, 4, own_class.shape[1], *places.shape[1:])
        votes = torch.where(seen[:, 3] == own_class[:, :, None], weights[:, None], 0.0)
        totals.append((seen * votes[:, None]).sum(3))
        counts.append(votes.sum(2)[:, None])
    # Of class ids, too: one multiplication more takes less than to part them from the colors.
    total, count = sum(totals[1:], totals[0])[:, :3], sum(counts[1:], counts[0])
    picture = torch.where(count > 0, rounded(total / count.clamp(min=1)), anchored)
    agreement = (torch.floor(count * (2 * AGREED) / counted.sum(1)[:, None, None]) - AGREED).clamp(min=0)
    return Vote(ballot.lit(picture, light), agreement)


def copied(chosen: Tensor, own_class: Tensor, anchored: Tensor, light: Tensor, ballot: Ballot) -> Tensor:
    """What pixels copy themselves, without any votes: arguments and result as those of `vote`, one pixel a place."""
    seen = look_up(ballot.colors, chosen.flatten(1))[:, :, None]
    picture = torch.where(seen[:, 3:] == own_class[:, None], seen[:, :3], anchored)
    return ballot.lit(picture, light)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``[places, C]`` at indices ``[N, P]``, as planes ``[N, C, P]``."""
    return F.embedding(index, table).transpose(1, 2)

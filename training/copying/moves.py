"""Parts of a layout that repeat the photograph's outlines elsewhere: what is there is best copied as a whole.

Choosing place by place cannot see it: a tower moved to the left would look like the one that stood there, since a
class's color depends on the place. As with the dominant offsets of patches (He and Sun 2012), pixels vote for the
movement to where the photograph's layout is most like the one around them; the movements with most votes are offered
to every pixel around which outlines fall on outlines.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying.descriptors import UNIT
from semia.training.copying.grid import Grid, quotient
from semia.training.copying.levels import SearchTables, wanted_rows, widened
from semia.training.copying.search import Candidates, Offers, cheapest_everywhere, filled

MOVES = 4
"""Movements of a layout's parts that are looked for."""

BETTER = 4
"""A pixel votes if its best match is so many times nearer, by squared distance, than its own place."""

CHANGED = round(0.05 * UNIT**2)
"""What its own place is away, at least."""

LEAST_VOTES = 1 / 250
"""A movement's share of the pixels, at least. One pixel of four votes, and counts four times."""

REACH = 8
"""Pixels from a pixel to the side of the square in which outlines are compared. What moves less is rather stretched:
many such movements would tear it."""

FIT = 76
"""How well outlines fit that are all the photograph's, moved, or where they always were, in whole steps."""

BONUS = FIT**2
"""What such a place is cheaper by: 0.8 * UNIT ** 2. What fits half as well has a quarter of it."""

TOLERATED = 3
"""A pixel of another class counts as much as so many pixels of outlines: then nothing is left of the bonus."""


@dataclass(frozen=True)
class Moves:
    """Movements of a layout's parts, and where outlines say so."""

    down: Tensor  # int32 [N, MOVES]: from a pixel to what it copies
    right: Tensor  # int32 [N, MOVES]
    bonus: Tensor  # whole numbers up to `BONUS`, [N, MOVES, h, w]: what copying so is cheaper by
    stay: Tensor  # the same of a pixel's own place, [N, 1, h, w]

    def halved(self) -> "Moves":
        """The same at half the size."""
        down, right = (quotient(steps + 2 * FAR + 1, 2) - FAR for steps in (self.down, self.right))
        return Moves(down, right, F.avg_pool2d(self.bonus, 2).floor(), F.avg_pool2d(self.stay, 2).floor())

    def offers(self, grid: Grid) -> Offers:
        """Of each pixel's movements the one with the largest bonus, and its own place, on the grid of this size."""
        best = self.bonus.flatten(2)
        picked = best.argmax(1)
        bonus = best.amax(1)
        steps = (self.down * grid.stride + self.right).gather(1, picked)
        home = grid.inside()[:1].to(steps.device)
        moved = home + torch.where(bonus > 0, steps, 0)
        return Offers(moved, torch.stack([bonus, self.stay.flatten(1)], dim=1))


FAR = 1024
"""More than any movement at these sizes, which have no side over 100 pixels; keeps what is halved positive."""


@dataclass(frozen=True)
class MoveFinder:
    """Looks for a layout's movements at one size: made once, before layouts come."""

    grid: Grid
    numbers: Tensor  # float32 [K, 1, 1]: all class ids
    class_ids: Tensor  # float32 [h, w]: of the plain photograph
    surroundings: Tensor  # float32 [9 * h * w, 1]: the same amid a border as wide and high as it is, of no class, -1
    sampled: Tensor  # int32 [P]: the pixels that vote
    own: Tensor  # float32 [P, C]: the photograph's label context there
    rows: Tensor  # float32 [1 + C, M]: everywhere, as `cheapest_everywhere` compares it
    places: Tensor  # int32 [M]
    tents: tuple[Tensor, Tensor]  # [2 * h, 2 * h], [2 * w, 2 * w]: how much a vote counts for the movements next to it
    beside: tuple[Tensor, Tensor]  # likewise: movements that are taken for the same one, 1 or 0
    windows: tuple[Tensor, Tensor]  # [h, h], [w, w]: pixels within `REACH`, 1 or 0

    @classmethod
    def of(cls, tables: SearchTables, candidates: Candidates, context_size: int) -> "MoveFinder":
        """Make it ready for a size.

        Args:
            tables: of the size.
            candidates: likewise.
            context_size: C, how many numbers of a descriptor are label context; they are the first.
        """
        grid, device = tables.grid, tables.rows.device
        height, width = grid.height, grid.width
        inside = grid.inside()[0].to(device)
        class_ids = widened(tables.colors).index_select(0, inside)[:, 3].view(height, width)
        padded = F.pad(class_ids, (width, width, height, height), value=-1.0)
        sampled = torch.arange(grid.pixels, dtype=torch.int32).view(height, width)[::2, ::2].flatten().to(device)
        context = candidates.table.index_select(0, inside)[:, 1 : 1 + context_size] / -2
        everywhere = torch.cat([context.square().sum(1, keepdim=True), context * -2], dim=1)
        return cls(
            grid=grid,
            numbers=torch.arange(tables.anchors.shape[0], device=device).float()[:, None, None],
            class_ids=class_ids,
            surroundings=padded.view(-1, 1),
            sampled=sampled,
            own=context.index_select(0, sampled),
            rows=filled(everywhere).T.contiguous(),
            places=filled(inside),
            tents=(_tent(2 * height, device), _tent(2 * width, device)),
            beside=(_band(2 * height, 2, device), _band(2 * width, 2, device)),
            windows=(_band(height, REACH, device), _band(width, REACH, device)),
        )

    def find(self, context: Tensor, class_ids: Tensor) -> Moves:
        """The movements with most votes.

        Args:
            context: label context of layouts, ``[N, h * w, C]``.
            class_ids: int64 ``[N, h * w]``.
        """
        down, right, votes = self._peaks(self._votes(context))
        enough = (votes >= LEAST_VOTES * self.grid.pixels).float()
        height, width = self.grid.height, self.grid.width
        targets = class_ids.float().view(-1, 1, height, width)
        first = (height * 3 + 1) * width + torch.arange(self.grid.pixels, dtype=torch.int32, device=down.device)
        first = first + quotient(torch.arange(self.grid.pixels, device=down.device).int(), width) * (2 * width)
        index = (down * (3 * width) + right)[:, :, None] + first
        moved = F.embedding(index, self.surroundings).view(-1, MOVES, height, width)
        bonus = self._bonus(moved != targets, _outlines(targets)) * (moved >= 0) * enough[:, :, None, None]
        return Moves(down, right, bonus, self._stay(targets))

    def _votes(self, context: Tensor) -> Tensor:
        """How many pixels are for each movement, ``[N, 2 * h, 2 * w]``; none at all is in the middle."""
        grid = self.grid
        context = context.index_select(1, self.sampled)
        match = cheapest_everywhere(wanted_rows(context), self.rows, self.places, None)
        nearest = match.costs + context.square().sum(2)
        own = (context - self.own).square().sum(2)
        row = quotient(match.places, grid.stride)
        here = quotient(self.sampled, grid.width)
        down = row - here - grid.margin
        right = match.places - row * grid.stride - (self.sampled - here * grid.width) - grid.margin
        far = torch.maximum(down.abs(), right.abs()) > REACH
        voting = (far & (nearest * BETTER < own) & (own > CHANGED)).float()
        rows = F.embedding(down + grid.height, self.tents[0]) * voting[:, :, None]
        return rows.transpose(1, 2) @ F.embedding(right + grid.width, self.tents[1])

    def _peaks(self, votes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Movements down and right, int32, and their votes, each ``[N, MOVES]``; those with most votes come first."""
        height, width = self.grid.height, self.grid.width
        down, right, counts = [], [], []
        for _ in range(MOVES):
            every = votes.flatten(1)
            peak = every.argmax(1, keepdim=True).int()
            row = quotient(peak, 2 * width)
            column = peak - row * (2 * width)
            taken = F.embedding(row, self.beside[0]).transpose(1, 2) * F.embedding(column, self.beside[1])
            votes = votes * (1 - taken)
            down.append(row - height)
            right.append(column - width)
            counts.append(every.amax(1, keepdim=True))
        return torch.cat(down, 1), torch.cat(right, 1), torch.cat(counts, 1)

    def _stay(self, targets: Tensor) -> Tensor:
        """The bonus of a pixel's own place, where the outlines of its own class are: others' may have moved."""
        here, there = ((class_ids == self.numbers).float() for class_ids in (targets, self.class_ids))
        return (self._bonus(here != there, _outlines(here)) * here).sum(1, keepdim=True)

    def _bonus(self, differing: Tensor, outlines: Tensor) -> Tensor:
        """`BONUS` where outlines are near and nothing differs, less the more does; shapes are ``[N, any, h, w]``."""
        wrong, right = (self.windows[0] @ near.float() @ self.windows[1] for near in (differing, outlines))
        side = 2 * REACH + 1
        right = right + side
        fit = ((right - wrong * TOLERATED).clamp(min=0) * FIT / right).floor()
        return torch.where(right * 2 > side * 3, fit * fit, 0.0)


def _outlines(class_ids: Tensor) -> Tensor:
    """Pixels of ``[N, any, h, w]`` whose left or upper neighbor has another class, 1 or 0."""
    left = F.pad((class_ids[..., 1:] != class_ids[..., :-1]).float(), (1, 0))
    above = F.pad((class_ids[:, :, 1:] != class_ids[:, :, :-1]).float(), (0, 0, 1, 0))
    return torch.maximum(left, above)


def _band(length: int, reach: int, device: torch.device) -> Tensor:
    """Which positions are within reach of which, 1 or 0, ``[length, length]``."""
    positions = torch.arange(length, device=device)
    return ((positions[:, None] - positions).abs() <= reach).float()


def _tent(length: int, device: torch.device) -> Tensor:
    """2 for a position itself, 1 for those beside it."""
    return _band(length, 0, device) + _band(length, 1, device)

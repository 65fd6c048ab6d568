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
from semia.training.copying.search import Candidates, Offers, band, cheapest_everywhere, filled

MOVES = 4
"""Movements of a layout's parts that are looked for."""

BETTER = 4
"""A pixel votes if its best match is so many times nearer, by squared distance, than its own place."""

CHANGED = round(0.05 * UNIT**2)
"""What its own place is away, at least."""

MIDDLE = 4
"""What a vote counts for the movement itself; for those a pixel beside it 2 or 1."""

LEAST_VOTES = 250
"""A movement's votes are one of so many pixels of the layout, at least, where each counts as much as `MIDDLE`."""

LEAST_SHARE = 20
"""It needs the votes of one of so many pixels whose surroundings have changed, too."""

REACH = 8
"""Pixels from a pixel to the side of the square in which outlines are compared. What moves less is rather stretched:
many such movements would tear it."""

FIT = 76
"""How well outlines fit that are all the photograph's, moved, or where they always were, in whole steps."""

BONUS = FIT**2
"""What such a place is cheaper by: 0.8 * UNIT ** 2. What fits half as well has a quarter of it."""

FAR = 1024
"""More than any movement at these sizes, which have no side over 100 pixels; keeps what is halved positive."""

THICK = 2
"""What a pixel that differs counts more if it begins a square of four: outlines that lie half a pixel away differ in
thin lines."""


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

    def offers(self, candidates: Candidates) -> Offers:
        """Of each pixel's movements the one with the largest bonus, and its own place, among this size's candidates."""
        best = self.bonus.flatten(2)
        picked = best.argmax(1)
        bonus = best.amax(1)
        steps = (self.down * candidates.grid.stride + self.right).gather(1, picked)
        moved = candidates.home + torch.where(bonus > 0, steps, 0)
        return Offers(moved, torch.stack([bonus, self.stay.flatten(1)], dim=1))


@dataclass(frozen=True)
class Squares:
    """Pixels around each pixel, up to so many to either side, in which outlines are compared."""

    side: int
    rows: Tensor  # [h, h]: which are within, 1 or 0
    columns: Tensor  # [w, w]

    @classmethod
    def reaching(cls, reach: int, grid: Grid, device: torch.device) -> "Squares":
        """Compare with so many pixels to either side."""
        return cls(2 * reach + 1, band(grid.height, reach, device), band(grid.width, reach, device))

    def fit(self, differing: Tensor, outlines: Tensor) -> tuple[Tensor, Tensor]:
        """Where there are outlines to compare, and `BONUS` where nothing differs, less the more does.

        Args:
            differing: how much each pixel differs, whole numbers ``[..., h, w]``.
            outlines: of the layout, 1 or 0, likewise.
        """
        wrong, right = (self.rows @ pixels @ self.columns for pixels in (differing, outlines))
        whole = right + self.side
        fit = ((whole - wrong).clamp(min=0) * FIT / whole).floor()
        return right * 2 > self.side, fit * fit


@dataclass(frozen=True)
class MoveFinder:
    """Looks for a layout's movements at one size: made once, before layouts come."""

    grid: Grid
    numbers: Tensor  # float32 [K, 1, 1]: all class ids
    movable: Tensor  # float32 [K, 1, 1]: 0 for the lit classes, whose light belongs to the place; else 1
    class_ids: Tensor  # float32 [h, w]: of the plain photograph
    surroundings: Tensor  # float32 [9 * h * w, 1]: the same amid a border as wide and high as it is, of no class, -1
    standing: Tensor  # int32 [h * w]: where each pixel is in them
    sampled: Tensor  # int32 [P]: the pixels that vote
    own: Tensor  # float32 [P, C]: the photograph's label context there
    rows: Tensor  # float32 [1 + C, M]: everywhere, as `cheapest_everywhere` compares it
    places: Tensor  # int32 [M]
    tents: tuple[Tensor, Tensor]  # [2 * h, 2 * h], [2 * w, 2 * w]: how much a vote counts for the movements next to it
    beside: tuple[Tensor, Tensor]  # likewise: movements that are taken for the same one, 1 or 0
    near: Squares
    far: Squares  # for pixels amid a class

    @classmethod
    def of(cls, tables: SearchTables, candidates: Candidates, context_size: int) -> "MoveFinder":
        """Make it ready for a size.

        Args:
            tables: of the size.
            candidates: likewise.
            context_size: C, how many numbers of a descriptor are label context; they are the first.
        """
        grid, device = tables.grid, tables.rows.device
        height, width, classes = grid.height, grid.width, tables.anchors.shape[0]
        inside = candidates.home[0]
        class_ids = widened(tables.colors).index_select(0, inside)[:, 3].view(height, width)
        padded = F.pad(class_ids, (width, width, height, height), value=-1.0)
        pixels = torch.arange(grid.pixels, dtype=torch.int32, device=device)
        sampled = pixels.view(height, width)[::2, ::2].flatten()
        context = candidates.table.index_select(0, inside)[:, 1 : 1 + context_size] / -2
        everywhere = torch.cat([context.square().sum(1, keepdim=True), context * -2], dim=1)
        return cls(
            grid=grid,
            numbers=torch.arange(classes, device=device).float()[:, None, None],
            movable=torch.cat(
                [torch.full((1, 1, 1), float(k not in tables.lit), device=device) for k in range(classes)]
            ),
            class_ids=class_ids,
            surroundings=padded.view(-1, 1),
            standing=(height * 3 + 1) * width + pixels + quotient(pixels, width) * (2 * width),
            sampled=sampled,
            own=context.index_select(0, sampled),
            rows=filled(everywhere).T.contiguous(),
            places=filled(inside),
            tents=(_tent(2 * height, device), _tent(2 * width, device)),
            beside=(band(2 * height, 2, device), band(2 * width, 2, device)),
            near=Squares.reaching(REACH, grid, device),
            far=Squares.reaching(2 * REACH, grid, device),
        )

    def find(self, context: Tensor, class_ids: Tensor) -> Moves:
        """The movements with most votes.

        Args:
            context: label context of layouts, ``[N, h * w, C]``.
            class_ids: int64 ``[N, h * w]``.
        """
        votes, changed = self._votes(context)
        down, right, counts = self._peaks(votes)
        enough = (counts * LEAST_SHARE >= changed * MIDDLE) & (counts * LEAST_VOTES >= self.grid.pixels)
        height, width = self.grid.height, self.grid.width
        targets = class_ids.float().view(-1, 1, 1, height, width)
        index = (down * (3 * width) + right)[:, :, None] + self.standing
        moved = F.embedding(index, self.surroundings).view(-1, MOVES, height, width)
        here = self._of_classes(targets)
        bonus = (self._bonus(here, self._of_classes(moved[:, :, None])) * self.movable).sum(2)
        stay = self._bonus(here, self._of_classes(self.class_ids)).sum(2)
        found = enough.float()[:, :, None, None]
        return Moves(down, right, bonus * found, stay * found.amax(1, keepdim=True))

    def _votes(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """How many pixels are for each movement, ``[N, 2 * h, 2 * w]``, and of how many, ``[N, 1]``.

        No movement at all is in the middle.
        """
        grid = self.grid
        context = context.index_select(1, self.sampled)
        match = cheapest_everywhere(wanted_rows(context), self.rows, self.places, None)
        nearest = match.costs + context.square().sum(2)
        own = (context - self.own).square().sum(2)
        row = quotient(match.places, grid.stride)
        here = quotient(self.sampled, grid.width)
        down = row - here - grid.margin
        right = match.places - row * grid.stride - (self.sampled - here * grid.width) - grid.margin
        changed = ((nearest * BETTER < own) & (own > CHANGED)).float()
        voting = changed * (torch.maximum(down.abs(), right.abs()) > REACH)
        rows = F.embedding(down + grid.height, self.tents[0]) * voting[:, :, None]
        return rows.transpose(1, 2) @ F.embedding(right + grid.width, self.tents[1]), changed.sum(1, keepdim=True)

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

    def _of_classes(self, class_ids: Tensor) -> Tensor:
        """Which pixels of ``[..., 1, h, w]`` or ``[h, w]`` are of which class, 1 or 0, ``[..., K, h, w]``."""
        return (class_ids == self.numbers).float()

    def _bonus(self, here: Tensor, there: Tensor) -> Tensor:
        """What pixels of each class are cheaper by, ``[N, any, K, h, w]``.

        Their own class counts alone: what is beside it may have moved otherwise. Amid a class, where no outline is
        near, those farther away say so.

        Args:
            here: `_of_classes` of layouts, ``[N, 1, K, h, w]``.
            there: the same of what they would copy.
        """
        apart, outlines = (here != there).float(), _outlines(here)
        differing = apart + _thick(apart) * THICK
        near, bonus = self.near.fit(differing, outlines)
        far, among = self.far.fit(differing, outlines)
        return torch.where(near, bonus, torch.where(far, among, 0.0)) * here * there


def _thick(pixels: Tensor) -> Tensor:
    """Those of pixels, 1 or 0, ``[..., h, w]``, at the upper left of a square of four."""
    pairs = F.pad(pixels[..., 1:] * pixels[..., :-1], (0, 1))
    return F.pad(pairs[..., 1:, :] * pairs[..., :-1, :], (0, 0, 0, 1))


def _outlines(class_ids: Tensor) -> Tensor:
    """Pixels of ``[..., h, w]`` whose left or upper neighbor has another class, 1 or 0."""
    left = F.pad((class_ids[..., 1:] != class_ids[..., :-1]).float(), (1, 0))
    above = F.pad((class_ids[..., 1:, :] != class_ids[..., :-1, :]).float(), (0, 0, 1, 0))
    return torch.maximum(left, above)


def _tent(length: int, device: torch.device) -> Tensor:
    """2 for a position itself, 1 for those beside it, ``[length, length]``."""
    return band(length, 0, device) + band(length, 1, device)

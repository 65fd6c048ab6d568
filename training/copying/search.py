"""Which place of the photograph each pixel copies: the cheapest of candidates, again and again.

The cost of a candidate is the squared distance of descriptors (label context, prior color and place, and how the
patch looks beside how the picture looks now), and what copying it costs in any case.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying.descriptors import UNIT
from semia.training.copying.grid import Grid, Windows, int_column, quotient
from semia.training.copying.levels import JUMP, REACH, VARIANT_COST, SearchTables, cost_rows
from semia.training.copying.similar import SIMILAR
from semia.training.copying.voting import look_up

STAY_BONUS = round(0.02 * UNIT**2)
"""What copying a pixel from its own place is cheaper by: what a layout leaves alone stays as it is."""

SIMILAR_COST = VARIANT_COST
"""Of going on at a similar place: else single pixels would do so for next to nothing, and fine grain would blur."""

REUSE_COST = 3
"""For every copy of a place, beyond the first, among the 5x5 places around it; a 25th of 0.01 * UNIT ** 2."""

NUMBERS_AT_ONCE = 1_000_000
"""Of gathered descriptors: more do not fit into a processor's cache."""

BLOCK = 64
"""Costs whose least is looked for first, before the place of the least."""

NEIGHBORS = [(0, -1), (0, 1), (-1, 0), (1, 0)]
"""Steps to the pixels whose patches are gone on with. On a chessboard all are of the other color."""


@dataclass(frozen=True)
class Half:
    """The P pixels of one of a chessboard's colors."""

    pixels: Tensor  # int32 [P]
    neighbors: Tensor  # int32 [4 * P]: where they stand among the other color's; off the canvas, one beyond those
    home: Tensor  # int32 [1, 1, P]: the plain photograph's place at each pixel
    bonus: Tensor  # float32 [1, 1, P]: what copying that is cheaper by


@dataclass(frozen=True)
class Candidates:
    """What a search compares with, in float32: made once, before layouts come."""

    grid: Grid
    table: Tensor  # [places, 1 + D]: `cost_rows`
    home: Tensor  # int32 [1, h * w]: the plain photograph's place at each pixel
    halves: tuple[Half, Half]  # the chessboard's white pixels, and its black ones
    merged: Tensor  # int32 [h * w]: where each pixel stands among all of the first half and then of the other
    steps: Tensor  # int32 [4, 1]: to what the neighbors copy here, if their patches go on
    similar: Tensor | None  # as in `SearchTables`

    @classmethod
    def from_tables(cls, tables: SearchTables) -> "Candidates":
        """Widen tables."""
        grid, device = tables.grid, tables.rows.device
        table = cost_rows(tables.rows)
        count = tables.halves.shape[1]
        standing = torch.where(tables.merged >= count, tables.merged - count, tables.merged)
        home = grid.inside()[0].to(device)
        white, black = (
            Half(
                pixels,
                Windows.around(pixels, grid.width, NEIGHBORS).of(standing.view(1, grid.height, -1), count).flatten(),
                home.index_select(0, pixels)[None, None],
                STAY_BONUS + tables.doubt.index_select(0, pixels)[None, None].float(),
            )
            for pixels in tables.halves
        )
        steps = int_column([down * grid.stride + right for down, right in NEIGHBORS], device)
        return cls(grid, table, home[None], (white, black), tables.merged, steps, tables.similar)


@dataclass(frozen=True)
class Choice:
    """The place that each pixel copies, and what that costs."""

    places: Tensor  # int32 [N, h * w]
    costs: Tensor  # float32 [N, h * w]: whole numbers, less the square of the wanted descriptor


@dataclass(frozen=True)
class Offers:
    """Where what is at each of P pixels may have moved from, and by how much that and its own place are cheaper."""

    moved: Tensor  # int32 [N, P]
    bonus: Tensor  # float32 [N, 2, P]: whole numbers, of that and of the own place

    def of(self, pixels: Tensor) -> "Offers":
        """Those of some pixels, int32 ``[Q]``."""
        return Offers(self.moved.index_select(1, pixels), self.bonus.index_select(2, pixels))


def filled(rows: Tensor) -> Tensor:
    """As many rows, ``[M, any]`` or ``[M]``, as `cheapest_everywhere` wants; the last, repeated, is never taken."""
    missing = -rows.shape[0] % BLOCK
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def cheapest_everywhere(wanted: Tensor, everything: Tensor, places: Tensor, reuse: Tensor | None) -> Choice:
    """Compare pixels with all places of the photograph's variants.

    Args:
        wanted: as `wanted_rows` gives it, ``[N, P, 1 + D]``.
        everything: the rows of those places, transposed, ``[1 + D, M]``; M is a multiple of `BLOCK`.
        places: their numbers, int32 ``[M]``.
        reuse: what copying each once more costs, ``[N, M]``.
    """
    if reuse is not None:
        others = everything[1:].expand(wanted.shape[0], -1, -1)
        everything = torch.cat([(reuse + everything[0])[:, None], others], dim=1)
    costs = wanted @ everything
    count, pixels = costs.shape[:2]
    blocks = costs.shape[2] // BLOCK
    least = costs.view(-1, pixels, blocks, BLOCK).amin(3)
    block = least.argmin(2)
    first = torch.arange(count * pixels, device=costs.device).view(-1, pixels) * blocks
    within = F.embedding(first + block, costs.view(-1, BLOCK))
    return Choice(F.embedding(block * BLOCK + within.argmin(2), places[:, None])[:, :, 0], least.amin(2))


@dataclass(frozen=True)
class NearPlaces:
    """Which rows of places lie within a patch of each row, and which columns of each column; 1 or 0."""

    grid: Grid
    rows: Tensor  # float32 [all pictures' rows, as many]
    columns: Tensor  # float32 [columns, columns]

    @classmethod
    def of(cls, grid: Grid, device: torch.device) -> "NearPlaces":
        """Count for a grid."""
        return cls(grid, band(grid.variants * grid.rows, REACH, device), band(grid.stride, REACH, device))


def band(length: int, reach: int, device: torch.device) -> Tensor:
    """Which of so many positions are within reach of which, 1 or 0, float32 ``[length, length]``."""
    positions = torch.arange(length, device=device)
    return ((positions[:, None] - positions).abs() <= reach).float()


def reuse_costs(chosen: Tensor, near: NearPlaces, each: int = 1) -> Tensor:
    """What copying each place once more costs, ``[N, places]``: of what is copied everywhere, everybody sees it.

    Args:
        chosen: ``[N, P]``.
        near: of the grid that numbers the places.
        each: how many pixels every one of P stands for.
    """
    row = quotient(chosen, near.grid.stride)
    near_rows = F.embedding(row, near.rows)
    near_columns = F.embedding(chosen - row * near.grid.stride, near.columns)
    uses = near_rows.transpose(1, 2) @ near_columns
    return ((uses * each - (2 * REACH + 1) ** 2) * REUSE_COST).clamp(min=0).flatten(1)


def improve(
    chosen: Tensor,
    wanted: Tensor,
    candidates: Candidates,
    jumps: list[tuple[int, int]],
    reuse: Tensor | None = None,
    found: Tensor | None = None,
    offers: Offers | None = None,
) -> Choice:
    """Let each pixel take the cheapest of a few candidates, first the chessboard's white pixels, then its black ones.

    Candidates are its present place, what its four neighbors' patches go on with, similar places where there are any,
    where what is there has moved from, its own place in the photograph, and for white pixels places nearby: black ones
    go on with what those found.
    (Neighbors' candidates: Ashikhmin 2001; in turn with places nearby: PatchMatch, Barnes et al. 2009.)

    Args:
        chosen: places, int32 ``[N, h * w]``.
        wanted: as `wanted_rows` gives it, ``[N, h * w, 1 + D]``.
        candidates: of this size.
        jumps: rows down and columns right of the present place to look at, at most `JUMP`.
        reuse: as `reuse_costs` gives it.
        found: places that were found otherwise, int32 ``[N, h * w]``.
        offers: for every pixel, where they are known.
    """
    assert all(max(abs(down), abs(right)) <= JUMP for down, right in jumps)
    grid = candidates.grid
    far = int_column([down * grid.stride + right for down, right in jumps], chosen.device) if jumps else None
    colors = [chosen.index_select(1, half.pixels) for half in candidates.halves]
    best: list[Choice] = []
    for number, half in enumerate(candidates.halves):
        others = colors[1] if number == 0 else best[0].places
        # Where the canvas ends there is a place in the margin, which is never the cheapest.
        beside = F.pad(others, (0, 1), value=grid.stride + 1).index_select(1, half.neighbors)
        beside = beside.view(-1, len(NEIGHBORS), others.shape[1]) - candidates.steps
        present = colors[number][:, None]
        options = [present, beside]
        if far is not None and number == 0:
            options.append(present + far)
        if found is not None:
            options.append(found.index_select(1, half.pixels)[:, None])
        extra = [0] * sum(option.shape[1] for option in options)
        if candidates.similar is not None:
            options.append(look_up(candidates.similar, present[:, 0]))
            extra += [SIMILAR_COST] * SIMILAR
        bonus = None
        if offers is not None:
            ours = offers.of(half.pixels)
            options.append(ours.moved[:, None])
            extra.append(0)
            bonus = ours.bonus
        options.append(half.home.expand(chosen.shape[0], -1, -1))
        every = torch.cat(options, 1)
        extra.append(0)
        last = F.pad(half.bonus, (0, 0, len(extra) - 1, 0))
        costs = _costs(every, wanted.index_select(1, half.pixels), candidates.table, reuse)
        costs = costs + (int_column(extra, chosen.device).float() - last)
        best.append(_cheapest(every, costs, bonus))
    places = torch.cat([half.places for half in best], dim=1).index_select(1, candidates.merged)
    costs = torch.cat([half.costs for half in best], dim=1).index_select(1, candidates.merged)
    return Choice(places, costs)


def prefer(choice: Choice, offers: Offers, wanted: Tensor, table: Tensor, home: Tensor, reuse: Tensor | None) -> Choice:
    """Let each pixel take one of the offers instead of what it chose, if that is cheaper.

    Args:
        choice: of P pixels.
        offers: for them.
        wanted: as `wanted_rows` gives it, ``[N, P, 1 + D]``.
        table: as `cost_rows` gives it, ``[places, 1 + D]``.
        home: the pixels' own places, int32 ``[1, P]``.
        reuse: as `reuse_costs` gives it, part of the choice's costs.
    """
    offered = torch.stack([offers.moved, home.expand_as(offers.moved)], dim=1)
    options = torch.cat([choice.places[:, None], offered], dim=1)
    every = torch.cat([choice.costs[:, None], _costs(offered, wanted, table, reuse)], dim=1)
    return _cheapest(options, every, offers.bonus)


def _costs(options: Tensor, wanted: Tensor, table: Tensor, reuse: Tensor | None) -> Tensor:
    """Of C options ``[N, C, P]`` for a pixel, of the same shape."""
    number, pixels = options.shape[1:]
    group = max(1, min(number, NUMBERS_AT_ONCE // (pixels * table.shape[1])))
    costs = []
    for first in range(0, number, group):
        rows = F.embedding(options[:, first : first + group], table)
        costs.append((rows * wanted[:, None]).sum(3))
    every = torch.cat(costs, dim=1)
    if reuse is None:
        return every
    return every + reuse.gather(1, options.flatten(1).long()).view(-1, number, pixels)


def _cheapest(options: Tensor, costs: Tensor, bonus: Tensor | None) -> Choice:
    """The cheapest of C options ``[N, C, P]`` for a pixel, of equal ones the first.

    A bonus ``[N, 2, P]``, of the last two, decides, but is no part of what the choice costs.
    """
    if bonus is None:
        picked = costs.argmin(1, keepdim=True)
        return Choice(options.gather(1, picked)[:, 0], costs.amin(1))
    picked = (costs - F.pad(bonus, (0, 0, costs.shape[1] - 2, 0))).argmin(1, keepdim=True)
    return Choice(options.gather(1, picked)[:, 0], costs.gather(1, picked)[:, 0])

"""Which place of the photograph each pixel copies: the cheapest of candidates, again and again.

The cost of a candidate is the squared distance of descriptors (label context, prior color and place, and how the
patch looks beside how the picture looks now), and what copying it costs in any case.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.copying.descriptors import UNIT
from training.copying.grid import Grid, Windows, int_column
from training.copying.levels import JUMP, REACH, VARIANT_COST, SearchTables
from training.copying.similar import SIMILAR
from training.copying.voting import look_up

STAY_BONUS = round(0.02 * UNIT**2)
"""What copying a pixel from its own place is cheaper by: what a layout leaves alone stays as it is."""

SIMILAR_COST = VARIANT_COST
"""Of going on at a similar place: else single pixels would do so for next to nothing, and fine grain would blur."""

REUSE_COST = 3
"""For every copy of a place, beyond the first, among the 5x5 places around it; a 25th of 0.01 * UNIT ** 2."""

NUMBERS_AT_ONCE = 4_000_000
"""Of gathered descriptors: more do not fit into a processor's cache."""

BLOCK = 64
"""Costs whose least is looked for first, before the place of the least."""

AROUND = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]
"""Steps to the pixels whose patches are gone on with: its own and its neighbors'."""


@dataclass(frozen=True)
class Half:
    """The pixels of one of a chessboard's colors."""

    pixels: Tensor  # int32 [P]
    around: Windows  # a pixel itself and its four neighbors
    home: Tensor  # int32 [1, 1, P]: the plain photograph's place at each pixel


@dataclass(frozen=True)
class Candidates:
    """What a search compares with, in float32: made once, before layouts come."""

    grid: Grid
    table: Tensor  # [places, D + 1]: descriptors, then their square and the cost of copying the place, added
    halves: tuple[Half, Half]
    merged: Tensor  # int32 [h * w]: where each pixel stands in both halves, one after the other
    steps: Tensor  # int32 [5, 1]: to what the pixels around copy here, if their patches go on
    similar: Tensor | None  # as in `SearchTables`

    @classmethod
    def from_tables(cls, tables: SearchTables) -> "Candidates":
        """Widen tables."""
        grid = tables.grid
        table = table_of(tables.descriptors, tables.costs)
        home = grid.inside()[0].to(table.device)
        white, black = (
            Half(half, Windows.around(half, grid.width, AROUND), home.index_select(0, half)[None, None])
            for half in tables.halves
        )
        steps = int_column([down * grid.stride + right for down, right in AROUND], home)
        return cls(grid, table, (white, black), tables.merged, steps, tables.similar)


@dataclass(frozen=True)
class Choice:
    """The place that each pixel copies, and what that costs."""

    places: Tensor  # int32 [N, h * w]
    costs: Tensor  # float32 [N, h * w]: whole numbers, less the square of the wanted descriptor


def table_of(descriptors: Tensor, costs: Tensor) -> Tensor:
    """`Candidates.table` of `SearchTables.descriptors` and `SearchTables.costs`."""
    widened = descriptors.float()
    squares = widened.square().sum(1) + costs.float() * VARIANT_COST
    return torch.cat([widened, squares[:, None]], dim=1)


def wanted_rows(fixed: Tensor, appearance: Tensor) -> Tensor:
    """What `Candidates.table` is multiplied by: the product is the cost, less the wanted descriptor's square.

    Args:
        fixed: ``[N, P, fixed_size]``, as `LevelDescriptors` has it.
        appearance: ``[N, P, D - fixed_size]``.
    """
    return torch.cat([fixed * -2, appearance * -2, torch.ones_like(fixed[:, :, :1])], dim=2)


def cheapest_everywhere(wanted: Tensor, everything: Tensor, places: Tensor, reuse: Tensor | None) -> Choice:
    """Compare pixels with all places of the photograph's variants.

    Args:
        wanted: as `wanted_rows` gives it, ``[N, P, D + 1]``.
        everything: the rows of those places, transposed, ``[D + 1, M]``; M is a multiple of `BLOCK`.
        places: their numbers, int32 ``[M]``.
        reuse: what copying each once more costs, ``[N, M]``.
    """
    if reuse is not None:
        everything = torch.cat([everything.expand(wanted.shape[0], -1, -1), reuse[:, None]], dim=1)
        wanted = torch.cat([wanted, torch.ones_like(wanted[:, :, :1])], dim=2)
    costs = wanted @ everything
    blocks = costs.view(-1, wanted.shape[1], costs.shape[2] // BLOCK, BLOCK)
    least = blocks.amin(3)
    block = least.argmin(2, keepdim=True)
    within = blocks.gather(2, block[..., None].expand(-1, -1, -1, BLOCK)).squeeze(2)
    index = block.squeeze(2) * BLOCK + within.argmin(2)
    return Choice(places.index_select(0, index.flatten()).view(-1, wanted.shape[1]), least.amin(2))


def reuse_costs(chosen: Tensor, grid: Grid) -> Tensor:
    """What copying each place once more costs, ``[N, places]``: of what is copied everywhere, everybody sees it.

    Args:
        chosen: ``[N, P]``.
        grid: which numbers the places.
    """
    row = torch.div(chosen, grid.stride, rounding_mode="trunc")
    near_rows = _near(row, grid.variants * grid.rows)
    near_columns = _near(chosen - row * grid.stride, grid.stride)
    uses = near_rows.transpose(1, 2) @ near_columns
    return ((uses - (2 * REACH + 1) ** 2) * REUSE_COST).clamp(min=0).flatten(1)


def _near(positions: Tensor, length: int) -> Tensor:
    """Which numbers up to a length are within a patch of each position ``[N, P]``, float32 ``[N, P, length]``."""
    away = positions[..., None] - torch.arange(length, device=positions.device)
    return (away.abs() <= REACH).float()


def improve(
    chosen: Tensor,
    wanted: Tensor,
    candidates: Candidates,
    jumps: list[tuple[int, int]],
    reuse: Tensor | None = None,
    found: Tensor | None = None,
) -> Choice:
    """Let each pixel take the cheapest of a few candidates, first the chessboard's white pixels, then its black ones.

    Candidates are its present place, what its four neighbors' patches go on with, places nearby, similar places
    where there are any, and its own place in the photograph. (Neighbors' candidates: Ashikhmin 2001; in turn with
    places nearby: PatchMatch, Barnes et al. 2009.)

    Args:
        chosen: places, int32 ``[N, h * w]``.
        wanted: as `wanted_rows` gives it.
        candidates: of this size.
        jumps: rows down and columns right of the present place to look at, at most `JUMP`.
        reuse: as `reuse_costs` gives it.
        found: places that were found otherwise, int32 ``[N, h * w]``.
    """
    assert all(max(abs(down), abs(right)) <= JUMP for down, right in jumps)
    grid = candidates.grid
    far = int_column([down * grid.stride + right for down, right in jumps], chosen)
    halves: list[Choice] = []
    for number, half in enumerate(candidates.halves):
        # Where the canvas ends there is a place in the margin, which is never the cheapest.
        around = half.around.of(chosen.view(-1, grid.height, grid.width), grid.stride + 1) - candidates.steps
        options = [around]
        if jumps:
            options.append(around[:, :1] + far)
        if found is not None:
            options.append(found.index_select(1, half.pixels)[:, None])
        last = [-STAY_BONUS]
        if candidates.similar is not None:
            options.append(look_up(candidates.similar, around[:, 0]))
            last = [SIMILAR_COST] * SIMILAR + last
        options.append(half.home.expand(chosen.shape[0], -1, -1))
        every = torch.cat(options, 1)
        extra = int_column([0] * (every.shape[1] - len(last)) + last, chosen).float()
        best = _cheapest(every, extra, wanted.index_select(1, half.pixels), candidates.table, reuse)
        halves.append(best)
        if number == 0:
            rest = chosen.index_select(1, candidates.halves[1].pixels)
            chosen = torch.cat([best.places, rest], dim=1).index_select(1, candidates.merged)
    places = torch.cat([half.places for half in halves], dim=1).index_select(1, candidates.merged)
    costs = torch.cat([half.costs for half in halves], dim=1).index_select(1, candidates.merged)
    return Choice(places, costs)


def _cheapest(options: Tensor, extra: Tensor, wanted: Tensor, table: Tensor, reuse: Tensor | None) -> Choice:
    """The cheapest of C options ``[N, C, P]`` for a pixel, extra costs ``[C, 1]`` added; of equal ones the first."""
    number, pixels = options.shape[1:]
    group = max(1, min(number, NUMBERS_AT_ONCE // (pixels * table.shape[1])))
    costs = []
    for first in range(0, number, group):
        rows = F.embedding(options[:, first : first + group], table)
        costs.append((rows * wanted[:, None]).sum(3))
    every = torch.cat(costs, dim=1)
    if reuse is not None:
        every = every + reuse.gather(1, options.flatten(1).long()).view(-1, number, pixels)
    every = every + extra
    picked = every.argmin(1, keepdim=True)
    return Choice(options.gather(1, picked)[:, 0], every.amin(1))

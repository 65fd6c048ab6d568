"""Painting a layout: at every size, coarse to fine, choices of what to copy and votes on colors by turns."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.base import stage
from semia.training.copying.descriptors import rounded
from semia.training.copying.levels import (
    FULL_SHARE,
    JUMP,
    LevelDescriptors,
    SearchTables,
    enlarged,
    in_places,
    wanted_rows,
)
from semia.training.copying.outline import soften_outlines
from semia.training.copying.search import (
    BLOCK,
    Candidates,
    Choice,
    NearPlaces,
    cheapest_everywhere,
    improve,
    reuse_costs,
)
from semia.training.copying.voting import BEST_QUALITY, Ballot, Vote, copied, quality_of, vote

ROUNDS = (4, 4, 3)
"""Choices and votes by turns at the coarsest size, at the next, and so on."""

LAST_ROUNDS = 1
"""At sizes finer than those."""

QUARTERS = ((0, 0), (1, 1))
"""At the size after the coarsest, one pixel of each 2x2 square is compared with every place in each first round: by
turns with either half of the variants' places."""

FIRST_JUMPS, LATER_JUMPS = (JUMP, 4, 2), (4, 1)
"""Pixels, at most, to candidates nearby: in a size's first round, and in later ones."""

FIRST_JUMPS_BESIDE_SIMILAR: tuple[int, ...] = (JUMP,)
"""The same where similar places are candidates; there are none in later rounds."""

TOLERANCE, LAST_TOLERANCE = 256.0, 16.0
"""Squared distance at which a patch's votes count a quarter: at the three coarsest sizes, and at finer ones."""


@dataclass(frozen=True)
class SearchedSize:
    """One size with all that searching it takes: made once, before layouts come."""

    order: int  # 0 for the coarsest, 1 for the next, and so on
    tables: SearchTables
    descriptors: LevelDescriptors
    candidates: Candidates
    ballot: Ballot
    all_by_layout: "Everything | None"  # at the coarsest size, what the first choice compares: without appearance
    everything: "tuple[Everything, ...]"  # at the two coarsest sizes, of rounds by turns; at others none
    near: NearPlaces | None  # likewise
    jumps: list[list[tuple[int, int]]]  # of each round
    tolerance: float

    @classmethod
    def at(cls, order: int, tables: SearchTables, descriptors: LevelDescriptors) -> "SearchedSize":
        """Make it ready.

        Args:
            order: 0 for the coarsest size, 1 for the next, and so on.
            tables: of this size.
            descriptors: likewise.
        """
        rounds = ROUNDS[order] if order < len(ROUNDS) else LAST_ROUNDS
        dice = random.Random(order)  # noqa: S311 - any directions will do, if they are always the same
        first, later = (FIRST_JUMPS, LATER_JUMPS) if tables.similar is None else (FIRST_JUMPS_BESIDE_SIMILAR, ())
        jumps = [
            [(dice.randint(-far, far), dice.randint(-far, far)) for far in (later if number else first)]
            for number in range(rounds)
        ]
        candidates = Candidates.from_tables(tables)
        everything: tuple[Everything, ...] = ()
        all_by_layout = None
        if order == 0:
            everything = (Everything.of(candidates),)
            all_by_layout = everything[0].by_layout(descriptors.fixed_size)
        elif order == 1:
            everything = tuple(Everything.by_turns(candidates, turn) for turn in range(len(QUARTERS)))
        return cls(
            order=order,
            tables=tables,
            descriptors=descriptors,
            candidates=candidates,
            ballot=Ballot.of(tables),
            all_by_layout=all_by_layout,
            everything=everything,
            near=NearPlaces.of(tables.grid, tables.rows.device) if everything else None,
            jumps=jumps,
            tolerance=TOLERANCE if order < len(ROUNDS) else LAST_TOLERANCE,
        )


@dataclass(frozen=True)
class Everything:
    """The M places of a size that pixels are compared with, wherever they are; none is in a margin."""

    places: Tensor  # int32 [M]
    rows: Tensor  # `Candidates.table` of these places, transposed, [1 + D, M]

    @classmethod
    def of(cls, candidates: Candidates) -> "Everything":
        """All places."""
        return cls._of(candidates, candidates.grid.inside().flatten().to(candidates.table.device))

    @classmethod
    def by_turns(cls, candidates: Candidates, turn: int) -> "Everything":
        """All places of the plain photograph, and of its variants those of one color of a chessboard, 0 or 1."""
        places = candidates.grid.inside().to(candidates.table.device)
        pixels = candidates.halves[turn].pixels
        return cls._of(candidates, torch.cat([places[0], places[1:].index_select(1, pixels).flatten()]))

    def by_layout(self, fixed_size: int) -> "Everything":
        """The same without their appearance: rows are ``[1 + fixed_size, M]``."""
        appearance = (self.rows[1 + fixed_size :] / -2).square().sum(0, keepdim=True)
        return Everything(self.places, torch.cat([self.rows[:1] - appearance, self.rows[1 : 1 + fixed_size]]))

    @classmethod
    def _of(cls, candidates: Candidates, places: Tensor) -> "Everything":
        # Filled up with a place in the margin, which is never the cheapest.
        places = F.pad(places, (0, -places.numel() % BLOCK))
        return cls(places, candidates.table.index_select(0, places).T.contiguous())


def paint(
    class_ids: Tensor, classes: int, sizes: Sequence[SearchedSize], whole: Ballot | None, softness: Tensor
) -> Tensor:
    """Draw layouts.

    Args:
        class_ids: int64 ``[N, H, W]`` on the padded canvas.
        classes: K.
        sizes: coarse to fine.
        whole: what may be copied on the whole canvas; None if that is the last of the sizes.
        softness: of the photograph's outlines, as `outline_softness` gives it, ``[1]``.

    Returns:
        Whole levels, float32 ``[N, 3, H, W]``.
    """
    with stage("layout"):
        numbers = torch.arange(classes, device=class_ids.device)[:, None, None]
        shares = (class_ids[:, None] == numbers).float() * FULL_SHARE
        means = [shares]  # exact; at half the size, and so on
        while means[-1].shape[2] > sizes[0].tables.grid.height:
            means.append(F.avg_pool2d(means[-1], 2))
    painted: _Painted | None = None
    for size, mean in zip(sizes, reversed(means), strict=False):  # large canvases are not searched at full size
        grid = size.tables.grid
        with stage(f"search at {grid.width}x{grid.height}"):
            chosen = None if painted is None else enlarged(painted.chosen, painted.size.tables.grid, grid)
            painted = _search(size, rounded(mean), chosen)
    assert painted is not None
    with stage("composition"):
        picture, agreement = (
            (painted.picture, painted.agreement) if whole is None else _compose(class_ids, painted, whole)
        )
        return soften_outlines(picture, class_ids, agreement, softness)


@dataclass(frozen=True)
class _Painted:
    """A layout as it is painted at one size."""

    size: SearchedSize
    picture: Tensor  # whole levels [N, 3, h, w]
    agreement: Tensor  # of its votes, [N, 1, h, w]
    chosen: Tensor  # places, int32 [N, h * w]
    quality: Tensor  # [N, h, w]


def _search(size: SearchedSize, shares: Tensor, chosen: Tensor | None) -> _Painted:
    """Choose and vote by turns, beginning with what the coarser size chose, or else with the layout alone."""
    tables, descriptors, ballot = size.tables, size.descriptors, size.ballot
    grid = tables.grid
    class_ids = shares.argmax(1).flatten(1)[:, None]
    anchors = ballot.anchors_at(class_ids)
    own_class, anchored, light = class_ids.float(), ballot.anchored(anchors), ballot.light_at(class_ids)
    fixed = descriptors.describe_layout(shares, _prior_and_place(tables, shares)).flatten(1, 2)
    fixed_square = fixed.square().sum(2)
    fixed = wanted_rows(fixed)
    if chosen is None:
        assert size.all_by_layout, "there is nothing before the coarsest size"
        chosen = cheapest_everywhere(fixed, size.all_by_layout.rows, size.all_by_layout.places, None).places

    def voted(places: Tensor, weights: Tensor) -> Vote:
        return vote(places.view(-1, grid.height, grid.width), weights, own_class, anchored, light, ballot)

    if size.order < len(ROUNDS):
        quality = torch.full_like(own_class, BEST_QUALITY).view(-1, grid.height, grid.width)
        picture = voted(chosen, quality).picture
    else:  # As good to begin with, where pieces are large already, and a ninth of the work.
        picture = copied(chosen, own_class, anchored, light, ballot)
    for number in range(len(size.jumps)):
        appearance = descriptors.appearance(picture.view(-1, 3, grid.height, grid.width)).flatten(1, 2)
        choice = _choose(size, chosen, torch.cat([fixed, appearance], dim=2), number, anchors)
        chosen = choice.places
        distances = (choice.costs + fixed_square + appearance.square().sum(2)).clamp(min=0)
        quality = quality_of(distances, size.tolerance).view(-1, grid.height, grid.width)
        picture, agreement = voted(chosen, quality)
    picture = picture.view(-1, 3, grid.height, grid.width)
    return _Painted(size, picture, agreement.view(-1, 1, grid.height, grid.width), chosen, quality)


def _prior_and_place(tables: SearchTables, shares: Tensor) -> Tensor | None:
    """The prior color of a layout's classes, and the place, ``[N, 5, h, w]``; None where they are not compared."""
    if tables.prior is None or tables.place is None:
        return None
    prior = rounded((shares[:, :, None] * tables.prior.float()).sum(1) / FULL_SHARE)
    return torch.cat([prior, tables.place.float().expand(shares.shape[0], -1, -1, -1)], dim=1)


def _choose(size: SearchedSize, chosen: Tensor, wanted: Tensor, number: int, anchors: Tensor) -> Choice:
    """A round's choice, where ``number`` rounds went before."""
    grid = size.tables.grid
    if not size.near or (size.order and number >= len(QUARTERS)):
        found = None
        if not size.near and number == 0:
            # Classes that neighbors do not have, such as a thin line's, begin at their anchors.
            found = F.embedding(anchors[:, 0], size.tables.anchors.view(-1, 1)).flatten(1)
        return improve(chosen, wanted, size.candidates, size.jumps[number], found=found)
    everything = size.everything[number % len(size.everything)]
    if size.order == 0:
        reuse = reuse_costs(chosen, size.near)
        return cheapest_everywhere(wanted, everything.rows, everything.places, reuse.index_select(1, everything.places))
    down, right = QUARTERS[number]
    sampled = chosen.view(-1, grid.height, grid.width)[:, down::2, right::2].flatten(1)
    reuse = reuse_costs(sampled, size.near, each=4)
    quarter = wanted.view(-1, grid.height, grid.width, wanted.shape[2])[:, down::2, right::2].flatten(1, 2)
    reuse_inside = reuse.index_select(1, everything.places)
    found = cheapest_everywhere(quarter, everything.rows, everything.places, reuse_inside).places
    # The other pixels of each square may go on from there.
    steps = torch.arange(2, dtype=torch.int32, device=chosen.device)
    steps = (steps[:, None, None] - down) * grid.stride + (steps - right)
    found = (found.view(-1, grid.height // 2, 1, grid.width // 2, 1) + steps).flatten(1)
    return improve(chosen, wanted, size.candidates, size.jumps[number], reuse, found)


def _compose(class_ids: Tensor, painted: _Painted, whole: Ballot) -> Vote:
    """Copy, on the whole canvas, what was chosen at a coarser size; both parts are planes ``[N, 3 or 1, H, W]``."""
    coarse, grid, side = painted.size.tables.grid, whole.tables.grid, whole.tables.side
    factor = grid.height // coarse.height
    chosen = enlarged(painted.chosen, coarse, grid).view(-1, grid.height, grid.width)
    quality = painted.quality[:, :, None, :, None].expand(-1, -1, factor, -1, factor)
    wanted = in_places(class_ids[:, None], side)[:, 0]
    anchored = whole.anchored(whole.anchors_at(wanted))
    quality = quality.reshape(-1, grid.height, grid.width)
    composed = vote(chosen, quality, wanted.float(), anchored, whole.light_at(wanted), whole)
    planes = (part.reshape(-1, part.shape[1] * side**2, grid.height, grid.width) for part in composed)
    return Vote(*(F.pixel_shuffle(part, side) for part in planes))

"""Painting a layout: at every size, coarse to fine, choices of what to copy and votes on colors by turns."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.base import stage
from semia.training.copying.descriptors import rounded
from semia.training.copying.grid import Grid
from semia.training.copying.levels import (
    FULL_SHARE,
    JUMP,
    LevelDescriptors,
    SearchTables,
    enlarged,
    in_places,
    wanted_rows,
)
from semia.training.copying.moves import MoveFinder
from semia.training.copying.outline import soften_outlines
from semia.training.copying.search import (
    Candidates,
    Choice,
    NearPlaces,
    Offers,
    cheapest_everywhere,
    filled,
    improve,
    prefer,
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
    moves: MoveFinder | None  # at the second size
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
            everything = (Everything.of(tables.grid, candidates.table),)
            all_by_layout = Everything.by_layout(candidates, descriptors.fixed_size)
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
            moves=MoveFinder.of(tables, candidates, descriptors.context.size) if order == 1 else None,
            jumps=jumps,
            tolerance=TOLERANCE if order < len(ROUNDS) else LAST_TOLERANCE,
        )


@dataclass(frozen=True)
class Everything:
    """The M places of a size that pixels are compared with, wherever they are; none is in a margin."""

    places: Tensor  # int32 [M]
    table: Tensor  # [all places, 1 + D]: as `cost_rows` gives it
    rows: Tensor  # of the M places, transposed, [1 + D, M]

    @classmethod
    def of(cls, grid: Grid, table: Tensor) -> "Everything":
        """All places."""
        return cls._of(grid.inside().flatten().to(table.device), table)

    @classmethod
    def by_turns(cls, candidates: Candidates, turn: int) -> "Everything":
        """All places of the plain photograph, and of its variants those of one color of a chessboard, 0 or 1."""
        places = candidates.grid.inside().to(candidates.table.device)
        pixels = candidates.halves[turn].pixels
        places = torch.cat([places[0], places[1:].index_select(1, pixels).flatten()])
        return cls._of(places, candidates.table)

    @classmethod
    def by_layout(cls, candidates: Candidates, fixed_size: int) -> "Everything":
        """All places without their appearance: rows have ``1 + fixed_size`` numbers."""
        cost, fixed, appearance = torch.tensor_split(candidates.table, [1, 1 + fixed_size], dim=1)
        seen = (appearance / -2).square().sum(1, keepdim=True)
        return cls.of(candidates.grid, torch.cat([cost - seen, fixed], dim=1))

    @classmethod
    def _of(cls, places: Tensor, table: Tensor) -> "Everything":
        places = filled(places)
        return cls(places, table, table.index_select(0, places).T.contiguous())


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
    # Coarse to fine; large canvases are not searched at full size.
    shares_at = [rounded(mean) for _, mean in zip(sizes, reversed(means), strict=False)]
    with stage("moved parts"):
        first = [_Layout.at(size, shares) for size, shares in zip(sizes[:2], shares_at, strict=False)]
        offers = _offers(sizes[:2], first)
    painted: _Painted | None = None
    for number, (size, shares) in enumerate(zip(sizes, shares_at, strict=True)):
        grid = size.tables.grid
        with stage(f"search at {grid.width}x{grid.height}"):
            layout = first[number] if number < len(first) else _Layout.at(size, shares)
            chosen = None if painted is None else enlarged(painted.chosen, painted.size.tables.grid, grid)
            painted = _search(size, layout, chosen, offers[number] if number < len(offers) else None)
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


@dataclass(frozen=True)
class _Layout:
    """A layout at one size."""

    class_ids: Tensor  # int64 [N, h * w]
    described: Tensor  # as `LevelDescriptors.describe_layout` does, [N, h * w, fixed_size]

    @classmethod
    def at(cls, size: SearchedSize, shares: Tensor) -> "_Layout":
        """Of class shares, whole numbers ``[N, K, h, w]``."""
        described = size.descriptors.describe_layout(shares, _prior_and_place(size.tables, shares))
        return cls(shares.argmax(1).flatten(1), described.flatten(1, 2))


def _offers(sizes: Sequence[SearchedSize], layouts: Sequence[_Layout]) -> list[Offers]:
    """At the two coarsest sizes; none on a canvas so small that only one size is searched."""
    if len(sizes) < 2:
        return []
    finder, layout = sizes[1].moves, layouts[1]
    assert finder
    context = layout.described[:, :, : sizes[1].descriptors.context.size]
    moves = finder.find(context, layout.class_ids)
    return [moves.halved().offers(sizes[0].candidates), moves.offers(sizes[1].candidates)]


def _search(size: SearchedSize, layout: _Layout, chosen: Tensor | None, offers: Offers | None) -> _Painted:
    """Choose and vote by turns, beginning with what the coarser size chose, or else with the layout alone."""
    tables, descriptors, ballot = size.tables, size.descriptors, size.ballot
    grid = tables.grid
    class_ids = layout.class_ids[:, None]
    anchors = ballot.anchors_at(class_ids)
    own_class, anchored, light = class_ids.float(), ballot.anchored(anchors), ballot.light_at(class_ids)
    fixed_square = layout.described.square().sum(2)
    fixed = wanted_rows(layout.described)
    if chosen is None:
        assert size.all_by_layout, "there is nothing before the coarsest size"
        chosen = _cheapest_of_all(fixed, size.all_by_layout, size.candidates.home, None, offers).places

    def voted(places: Tensor, weights: Tensor) -> Vote:
        return vote(places.view(-1, grid.height, grid.width), weights, own_class, anchored, light, ballot)

    if size.order < len(ROUNDS):
        quality = torch.full_like(own_class, BEST_QUALITY).view(-1, grid.height, grid.width)
        picture = voted(chosen, quality).picture
    else:  # As good to begin with, where pieces are large already, and a ninth of the work.
        picture = copied(chosen, own_class, anchored, light, ballot)
    for number in range(len(size.jumps)):
        appearance = descriptors.appearance(picture.view(-1, 3, grid.height, grid.width)).flatten(1, 2)
        choice = _choose(size, chosen, torch.cat([fixed, appearance], dim=2), number, anchors, offers)
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


def _cheapest_of_all(
    wanted: Tensor, everything: Everything, home: Tensor, reuse: Tensor | None, offers: Offers | None
) -> Choice:
    """The cheapest of all places, or of what is offered besides; ``home`` has the pixels' own, ``[1, P]``."""
    reuse_there = None if reuse is None else reuse.index_select(1, everything.places)
    choice = cheapest_everywhere(wanted, everything.rows, everything.places, reuse_there)
    if offers is None:
        return choice
    return prefer(choice, offers, wanted, everything.table, home, reuse)


def _choose(
    size: SearchedSize, chosen: Tensor, wanted: Tensor, number: int, anchors: Tensor, offers: Offers | None
) -> Choice:
    """A round's choice, where ``number`` rounds went before."""
    grid = size.tables.grid
    if not size.near or (size.order and number >= len(QUARTERS)):
        found = None
        if not size.near and number == 0:
            # Classes that neighbors do not have, such as a thin line's, begin at their anchors.
            found = F.embedding(anchors[:, 0], size.tables.anchors.view(-1, 1)).flatten(1)
        return improve(chosen, wanted, size.candidates, size.jumps[number], found=found, offers=offers)
    everything = size.everything[number % len(size.everything)]
    if size.order == 0:
        reuse = reuse_costs(chosen, size.near)
        return _cheapest_of_all(wanted, everything, size.candidates.home, reuse, offers)
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
    return improve(chosen, wanted, size.candidates, size.jumps[number], reuse, found, offers)


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

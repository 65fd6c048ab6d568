"""Choices against brute force: costs counted one by one in whole numbers."""

import dataclasses

import pytest
import torch
from torch import Tensor

from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.grid import Grid
from semia.training.copying.levels import (
    COST_DIGITS,
    DOUBT_COST,
    JUMP,
    REACH,
    SIMILAR_ORDER,
    VARIANT_COST,
    SearchTables,
    cost_digits,
    wanted_rows,
)
from semia.training.copying.painting import Everything, SearchedSize
from semia.training.copying.search import (
    REUSE_COST,
    SIMILAR_COST,
    STAY_BONUS,
    Candidates,
    Choice,
    NearPlaces,
    Offers,
    cheapest_everywhere,
    improve,
    prefer,
    reuse_costs,
)

JUMPS = [(-JUMP, 3), (2, JUMP)]


@pytest.fixture(scope="module")
def sizes(copying: CopyingGenerator) -> list[SearchedSize]:
    """All that are searched, coarse to fine; the first two are compared with every place."""
    return copying.ready(copying.tables())[0]


@pytest.fixture(scope="module")
def tables(sizes: list[SearchedSize]) -> SearchTables:
    return sizes[1].tables


@pytest.fixture(scope="module")
def everything(sizes: list[SearchedSize]) -> Everything:
    return sizes[1].everything[0]


def inside(tables: SearchTables) -> Tensor:
    """The places that are in no margin, variant by variant."""
    return tables.grid.inside().flatten()


def descriptors(tables: SearchTables) -> Tensor:
    """int64 ``[places, D]``."""
    return tables.rows[:, len(COST_DIGITS) :].long()


def squares(tables: SearchTables) -> Tensor:
    """Of descriptors, plus what copying a place costs, int64 ``[places]``."""
    return (tables.rows[:, : len(COST_DIGITS)].long() * torch.tensor(COST_DIGITS)).sum(1)


def with_rows(tables: SearchTables, squares: Tensor, descriptors: Tensor) -> SearchTables:
    return dataclasses.replace(tables, rows=torch.cat([cost_digits(squares), descriptors.to(torch.int8)], dim=1))


def near(grid: Grid) -> NearPlaces:
    return NearPlaces.of(grid, torch.device("cpu"))


def wanted_descriptors(tables: SearchTables, number: int = 2) -> Tensor:
    """Of so many layouts, near what there is, whole numbers ``[N, P, D]``."""
    random = torch.Generator().manual_seed(1)
    picked = inside(tables).long()[
        torch.randint(tables.grid.variants * tables.grid.pixels, (number, tables.grid.pixels), generator=random)
    ]
    known = descriptors(tables).float()
    noise = torch.randint(-20, 21, (number, tables.grid.pixels, known.shape[1]), generator=random)
    return (known[picked] + noise).clamp(-127, 127)


def cost(wanted: Tensor, places: Tensor, tables: SearchTables) -> Tensor:
    """Squared distance and the cost of copying, int64, for wanted ``[..., D]`` and places ``[...]``."""
    described = descriptors(tables)[places.long()]
    copying = squares(tables)[places.long()] - described.square().sum(-1)
    return (wanted.long() - described).square().sum(-1) + copying


def random_choice(tables: SearchTables, number: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(2)
    return inside(tables)[torch.randint(len(inside(tables)), (number, tables.grid.pixels), generator=random)]


def clustered_choice(tables: SearchTables) -> Tensor:
    """Only places of the photograph's upper third, three times each and more."""
    return inside(tables)[random_choice(tables).long() % (tables.grid.pixels // 3)]


@pytest.mark.parametrize("reused", [False, True])
def test_the_cheapest_of_all_is_found(tables: SearchTables, everything: Everything, reused: bool) -> None:
    wanted = wanted_descriptors(tables)[:, ::61]
    reuse = reuse_costs(clustered_choice(tables), near(tables.grid)) if reused else None
    every = torch.stack([cost(one[:, None], everything.places[None], tables) for one in wanted])
    if reuse is not None:
        assert reuse.any()
        every += reuse[:, None, everything.places.long()].long()
    reuse_inside = None if reuse is None else reuse.index_select(1, everything.places)
    choice = cheapest_everywhere(wanted_rows(wanted), everything.rows, everything.places, reuse_inside)
    assert torch.equal(choice.places, everything.places[every.argmin(2)])
    assert torch.equal(choice.costs.long() + wanted.long().square().sum(2), every.amin(2))


def test_all_of_the_photograph_is_compared_and_by_turns_half_of_its_variants(sizes: list[SearchedSize]) -> None:
    for size in sizes[:2]:
        photograph, every = set(size.tables.grid.inside()[0].tolist()), set(inside(size.tables).tolist())
        turns = [one.places[one.places > 0].tolist() for one in size.everything]  # without what fills the table up
        assert set().union(*turns) == every
        assert sum(map(len, turns)) == len(every) + len(photograph) * (len(turns) - 1)
        assert all(photograph <= set(turn) for turn in turns)


def test_the_layout_alone_finds_the_cheapest_without_appearance(sizes: list[SearchedSize]) -> None:
    tables, everything = sizes[0].tables, sizes[0].all_by_layout
    assert everything is not None
    described = descriptors(tables)
    fixed = described.shape[1] - sizes[0].descriptors.appearance.size
    wanted = wanted_descriptors(tables)[:, :, :fixed]
    appearance = described[:, fixed:].square().sum(1)
    layout_alone = with_rows(tables, squares(tables) - appearance, described[:, :fixed])
    every = torch.stack([cost(one[:, None], inside(tables)[None], layout_alone) for one in wanted])
    choice = cheapest_everywhere(wanted_rows(wanted), everything.rows, everything.places, None)
    assert torch.equal(choice.places, inside(tables)[every.argmin(2)])


def test_of_equally_cheap_ones_the_first_is_taken(tables: SearchTables, everything: Everything) -> None:
    same = everything.rows[:, :1].expand(-1, everything.rows.shape[1])
    wanted = wanted_rows(wanted_descriptors(tables))
    choice = cheapest_everywhere(wanted, same, everything.places, None)
    assert (choice.places == everything.places[0]).all()


def test_a_reused_place_costs_for_every_copy_around_it(tables: SearchTables) -> None:
    grid = tables.grid
    chosen = clustered_choice(tables)
    uses = torch.zeros(2, grid.variants * grid.area, dtype=torch.int64)
    for layout, places in enumerate(chosen.tolist()):
        for place in places:
            for down in range(-REACH, REACH + 1):
                for right in range(-REACH, REACH + 1):
                    uses[layout, place + down * grid.stride + right] += 1
    expected = ((uses - (2 * REACH + 1) ** 2) * REUSE_COST).clamp(min=0)
    assert torch.equal(reuse_costs(chosen, near(grid)).long(), expected)
    fourfold = ((uses * 4 - (2 * REACH + 1) ** 2) * REUSE_COST).clamp(min=0)
    assert torch.equal(reuse_costs(chosen, near(grid), each=4).long(), fourfold)


def test_copying_the_photograph_as_it_is_reuses_nothing(tables: SearchTables) -> None:
    own = inside(tables)[: tables.grid.pixels][None]
    assert not reuse_costs(own, near(tables.grid)).any()


@pytest.mark.parametrize("with_more", [False, True])
def test_improving_never_costs_more(sizes: list[SearchedSize], with_more: bool) -> None:
    tables = sizes[-1].tables
    wanted, chosen = wanted_descriptors(tables), random_choice(tables)
    reuse = reuse_costs(clustered_choice(tables), near(tables.grid)) if with_more else None
    found = random_choice(tables).flip(1) if with_more else None
    choice = improve(chosen, wanted_rows(wanted), Candidates.from_tables(tables), JUMPS, reuse, found)

    own = inside(tables)[: tables.grid.pixels].expand_as(chosen)

    def costs(places: Tensor) -> Tensor:
        once_more = 0 if reuse is None else reuse.gather(1, places.long()).long()
        return cost(wanted, places, tables) + once_more - STAY_BONUS * (places == own)

    assert (costs(choice.places) <= costs(chosen)).all()
    assert (costs(choice.places) <= costs(own)).all()
    if found is not None:
        assert (costs(choice.places) <= costs(found)).all()
    assert (costs(choice.places) < costs(chosen)).float().mean() > 0.5
    assert torch.isin(choice.places, inside(tables)).all(), "no margin is copied"


@pytest.mark.parametrize("with_similar", [False, True])
def test_each_half_takes_the_cheapest_of_its_candidates(tables: SearchTables, with_similar: bool) -> None:
    """White pixels by what is chosen before, black ones by what the white ones chose."""
    if with_similar:
        places = random_choice(tables, 2).T[torch.arange(len(tables.colors)) % tables.grid.pixels]
        tables = dataclasses.replace(tables, similar=places)
    grid = tables.grid
    wanted, chosen = wanted_descriptors(tables, 1), random_choice(tables, 1)
    choice = improve(chosen, wanted_rows(wanted), Candidates.from_tables(tables), JUMPS)
    present = chosen[0].view(grid.height, grid.width).clone()
    own = inside(tables)[: grid.pixels].view(grid.height, grid.width)
    for color in (0, 1):
        before = present.clone()
        for row in range(grid.height):
            for column in range(grid.width):
                if (row + column) % 2 != color:
                    continue
                options = [int(before[row, column])]
                for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
                    if 0 <= row + down < grid.height and 0 <= column + right < grid.width:
                        options.append(int(before[row + down, column + right]) - down * grid.stride - right)
                if color == 0:
                    options += [options[0] + down * grid.stride + right for down, right in JUMPS]
                if tables.similar is not None:
                    options += tables.similar[options[0]].tolist()
                options.append(int(own[row, column]))
                costs = cost(wanted[0, row * grid.width + column], torch.tensor(options), tables)
                costs[-1] -= STAY_BONUS
                if tables.similar is not None:
                    costs[-3:-1] += SIMILAR_COST
                present[row, column] = options[int(costs.argmin())]
    assert torch.equal(choice.places[0].view(grid.height, grid.width), present)


def test_what_a_pixel_copies_already_stays_where_all_cost_the_same(tables: SearchTables) -> None:
    described = torch.zeros_like(descriptors(tables))
    costs = torch.full((len(described),), VARIANT_COST)
    equal = with_rows(tables, costs, described)
    chosen = random_choice(tables)
    candidates = Candidates.from_tables(equal)
    wanted = wanted_rows(torch.zeros(2, tables.grid.pixels, described.shape[1]))
    own = inside(tables)[: tables.grid.pixels].expand_as(chosen)
    assert torch.equal(improve(chosen, wanted, candidates, JUMPS).places, own), "its own place is cheaper"
    costs[inside(tables)[: tables.grid.pixels].long()] += 2 * VARIANT_COST
    equal = with_rows(tables, costs, described)
    elsewhere = improve(chosen, wanted, Candidates.from_tables(equal), JUMPS).places
    from_others = ~torch.isin(chosen, own)
    assert torch.equal(elsewhere[from_others], chosen[from_others])


def test_doubtful_places_are_copied_to_where_they_are_and_nowhere_else(tables: SearchTables) -> None:
    described = torch.zeros_like(descriptors(tables))
    own = inside(tables)[: tables.grid.pixels]
    doubt = torch.full((tables.grid.pixels,), DOUBT_COST * VARIANT_COST, dtype=torch.int32)
    costs = torch.full((len(described),), VARIANT_COST)
    costs[own.long()] += doubt
    doubted = dataclasses.replace(with_rows(tables, costs, described), doubt=doubt)
    chosen = random_choice(tables)
    wanted = wanted_rows(torch.zeros(2, tables.grid.pixels, described.shape[1]))
    choice = improve(chosen, wanted, Candidates.from_tables(doubted), JUMPS)
    assert torch.equal(choice.places, own.expand_as(chosen)), "what a layout leaves alone stays"


@pytest.mark.parametrize("jump", [(JUMP + 1, 0), (0, -JUMP - 1)])
def test_too_long_a_jump_would_leave_the_margin(tables: SearchTables, jump: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        improve(random_choice(tables), wanted_rows(wanted_descriptors(tables)), Candidates.from_tables(tables), [jump])


def test_similar_places_are_candidates_at_one_size(sizes: list[SearchedSize]) -> None:
    assert len(sizes) > SIMILAR_ORDER
    for order, size in enumerate(sizes):
        assert (size.candidates.similar is not None) == (order == SIMILAR_ORDER)


@pytest.mark.parametrize("bonus", [0.0, 1e6])
def test_a_bonus_decides_but_costs_stay_as_they_are(tables: SearchTables, bonus: float) -> None:
    wanted, chosen, moved = wanted_descriptors(tables), random_choice(tables), random_choice(tables).flip(1)
    offers = Offers(moved, torch.tensor([bonus, bonus / 2]).view(1, 2, 1).expand(2, -1, tables.grid.pixels))
    candidates = Candidates.from_tables(tables)
    choice = improve(chosen, wanted_rows(wanted), candidates, JUMPS, offers=offers)
    own = inside(tables)[: tables.grid.pixels].expand_as(chosen)
    squares_wanted = wanted.square().sum(2)
    expected = cost(wanted, choice.places, tables) - STAY_BONUS * (choice.places == own) - squares_wanted
    assert (choice.places == moved).all() == (bonus > 0)
    differs = choice.places != own  # a pixel may have chosen its own place by another way, without what that is cheaper
    assert torch.equal(choice.costs.long()[differs], expected.long()[differs])


@pytest.mark.parametrize("bonus", [(0, 0), (1_000_000, 0), (0, 1_000_000)])
def test_an_offer_is_preferred_if_it_costs_less(tables: SearchTables, bonus: tuple[int, int]) -> None:
    wanted, chosen, moved = wanted_descriptors(tables), random_choice(tables), random_choice(tables).flip(1)
    reuse = reuse_costs(clustered_choice(tables), near(tables.grid))
    own = inside(tables)[: tables.grid.pixels].expand_as(chosen)

    def costs(places: Tensor) -> Tensor:
        return cost(wanted, places, tables) - wanted.square().sum(2) + reuse.gather(1, places.long()).long()

    offers = Offers(moved, torch.tensor(bonus).float().view(1, 2, 1).expand(2, -1, tables.grid.pixels))
    before = Choice(chosen, costs(chosen).float())
    choice = prefer(before, offers, wanted_rows(wanted), Candidates.from_tables(tables).table, own[:1], reuse)
    options, every = torch.stack([chosen, moved, own]), torch.stack([costs(each) for each in (chosen, moved, own)])
    picked = (every - torch.tensor([0, *bonus]).view(3, 1, 1)).argmin(0, keepdim=True)
    assert torch.equal(choice.places, options.gather(0, picked)[0])
    assert torch.equal(choice.costs.long(), every.gather(0, picked)[0])

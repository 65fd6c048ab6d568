import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying import voting
from semia.training.copying.grid import Grid
from semia.training.copying.levels import SPREAD, CopiedColors, colors_of, enlarged, in_places
from semia.training.copying.outline import AGREED
from semia.training.copying.voting import BEST_QUALITY, Ballot, Vote, copied, quality_of, vote

GRID = Grid(2, 12, 15, margin=SPREAD)


def random_pictures(classes: int) -> tuple[Tensor, Tensor]:
    """Two pictures in whole levels, and their class ids."""
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (2, 3, 12, 15), generator=random)
    return pictures, torch.randint(0, classes, (2, 1, 12, 15), generator=random)


def random_colors(classes: int) -> Tensor:
    """uint8 ``[places, 4]``: every place has a color and a class."""
    return GRID.table(torch.cat(random_pictures(classes), dim=1)).to(torch.uint8)


NO_LIGHT = torch.zeros(0, 3, 1, 1, dtype=torch.int8)

ANCHORED = torch.tensor([3, 33, 233])
"""The color of what no class votes for."""


def draw(chosen: Tensor, quality: Tensor, colors: Tensor, class_ids: Tensor) -> Tensor:
    """The picture that pixels ``[N, 180]`` vote for."""
    return voted(chosen, quality, colors, class_ids).picture.view(-1, 3, GRID.height, GRID.width)


def voted(chosen: Tensor, quality: Tensor, colors: Tensor, class_ids: Tensor) -> Vote:
    """The vote of pixels ``[N, 180]``."""
    shape = (-1, GRID.height, GRID.width)
    anchors = ANCHORED.to(torch.uint8).expand(10, 4, 3)
    ballot = Ballot.of(CopiedColors(grid=GRID, side=1, colors=colors, anchor_colors=anchors, light=NO_LIGHT, lit=()))
    own_class = class_ids.reshape(-1, 1, GRID.pixels)
    anchored = ballot.anchored(ballot.anchors_at(own_class.long()))
    light = ballot.light_at(own_class.long())
    return vote(chosen.view(shape), quality.view(shape), own_class, anchored, light, ballot)


def own_places(number: int = 1) -> Tensor:
    return GRID.inside()[:1].expand(number, -1)


def test_a_color_is_the_exact_mean_of_its_own_classs_votes() -> None:
    random = torch.Generator().manual_seed(3)
    inside = GRID.inside().flatten()
    chosen = inside[torch.randint(len(inside), (2, GRID.pixels), generator=random)]
    quality = torch.randint(1, int(BEST_QUALITY) + 1, (2, GRID.pixels), generator=random).float()
    ids = torch.randint(0, 3, (2, GRID.pixels), generator=random)
    colors = random_colors(3)
    drawn = draw(chosen, quality, colors, ids.float())
    weights = {-SPREAD: 5, 0: 8, SPREAD: 5}
    for layout in range(2):
        for row in range(GRID.height):
            for column in range(GRID.width):
                pixel = row * GRID.width + column
                total, count = torch.zeros(3, dtype=torch.int64), 0
                for down, vertical in weights.items():
                    for right, horizontal in weights.items():
                        if not (0 <= row + down < GRID.height and 0 <= column + right < GRID.width):
                            continue
                        beside = pixel + down * GRID.width + right
                        seen = colors[int(chosen[layout, beside]) - down * GRID.stride - right].long()
                        if seen[3] == ids[layout, pixel]:
                            votes = int(quality[layout, beside]) * vertical * horizontal
                            total, count = total + seen[:3] * votes, count + votes
                expected = (2 * total + count) // (2 * count) if count else ANCHORED  # rounded, halves up
                assert drawn[layout, :, row, column].long().tolist() == expected.tolist()


def test_a_coherent_copy_gives_the_photograph_back() -> None:
    colors = random_colors(4)
    shown = colors[own_places()[0].long()]
    quality = torch.full((1, GRID.pixels), 17.0)
    drawn = draw(own_places(), quality, colors, shown[None, :, 3].float())
    assert torch.equal(drawn[0].flatten(1), shown[:, :3].T)


def test_other_classes_have_no_vote() -> None:
    colors = random_colors(1)
    left = torch.arange(GRID.pixels) % GRID.width < 7
    places = own_places()[0].long()
    colors[places, :3] = torch.where(left, 10, 200).to(torch.uint8)[:, None].expand(-1, 3)
    colors[places, 3] = torch.where(left, 0, 1).to(torch.uint8)
    drawn = draw(own_places(), torch.full((1, GRID.pixels), 64.0), colors, torch.where(left, 0.0, 1.0))
    assert set(drawn.flatten().tolist()) == {10.0, 200.0}
    assert torch.equal(drawn[0, 0].flatten() == 10, left)


def test_without_any_vote_a_pixel_is_its_classs_anchor() -> None:
    colors = random_colors(2)
    drawn = draw(own_places(), torch.full((1, GRID.pixels), 64.0), colors, torch.full((GRID.pixels,), 9.0))
    assert (drawn[0].flatten(1) == ANCHORED[:, None]).all()


@pytest.mark.parametrize("at_once", [voting.NUMBERS_AT_ONCE, 1])
def test_squares_are_voted_on_as_their_pixels_would_be(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Four pixels that copy what belongs together, at once; also from and beyond the pictures' edges."""
    monkeypatch.setattr(voting, "NUMBERS_AT_ONCE", at_once)
    squares = Grid(2, 6, 8, margin=1)
    single = Grid(2, 12, 16, margin=SPREAD)
    random = torch.Generator().manual_seed(4)
    pictures, ids = torch.randint(0, 256, (2, 3, 12, 16)), torch.randint(0, 2, (2, 12, 16))
    chosen = squares.inside().flatten()[torch.randint(96, (1, 48), generator=random)]
    quality = torch.randint(1, int(BEST_QUALITY) + 1, (1, 6, 8), generator=random).float()
    wanted = torch.randint(0, 2, (1, 1, 12, 16), generator=random)
    light = torch.randint(-127, 128, (1, 3, 12, 16), generator=random).to(torch.int8)
    drawn = []
    for grid, side in ((single, 1), (squares, 2)):
        anchors = ANCHORED.to(torch.uint8).expand(2, 4, 3)
        ballot = Ballot.of(CopiedColors(grid, side, colors_of(grid, side, pictures, ids), anchors, light, (1,)))
        own_class = in_places(wanted, side)[:, 0]
        places = enlarged(chosen, squares, grid).view(1, grid.height, grid.width)
        counted = quality.repeat_interleave(2 // side, 1).repeat_interleave(2 // side, 2)
        anchored = ballot.anchored(ballot.anchors_at(own_class))
        picture = vote(places, counted, own_class.float(), anchored, ballot.light_at(own_class), ballot).picture
        drawn.append(F.pixel_shuffle(picture.view(1, 3 * side**2, grid.height, grid.width), side))
    assert torch.equal(*drawn)


def test_light_is_added_to_lit_classes_alone() -> None:
    colors = random_colors(3)
    shown = colors[own_places()[0].long()].long()
    shown[:, 3] = torch.arange(GRID.pixels) % 3
    colors[own_places()[0].long()] = shown.to(torch.uint8)
    light = torch.arange(-90, 90).view(1, 1, GRID.height, GRID.width).expand(1, 3, -1, -1).to(torch.int8)
    anchors = ANCHORED.to(torch.uint8).expand(3, 4, 3)
    ballot = Ballot.of(CopiedColors(GRID, 1, colors, anchors, light, lit=(2,)))
    class_ids = shown[None, None, :, 3]
    chosen = own_places().view(1, GRID.height, GRID.width)
    anchored = ballot.anchored(ballot.anchors_at(class_ids))
    drawn = vote(chosen, chosen * 0 + 1, class_ids.float(), anchored, ballot.light_at(class_ids), ballot).picture
    added = torch.where(shown[:, 3] == 2, torch.arange(-90, 90), 0)
    assert torch.equal(drawn[0, :, 0].long(), (shown[:, :3].T + added).clamp(0, 255))


def test_without_votes_a_pixel_is_what_it_copies_or_its_classs_anchor() -> None:
    colors = random_colors(3)
    shown = colors[own_places()[0].long()].long()
    class_ids = torch.where(torch.arange(GRID.pixels) % 5 == 0, (shown[:, 3] + 1) % 3, shown[:, 3])[None, None]
    light = torch.full((1, 3, GRID.height, GRID.width), 7, dtype=torch.int8)
    ballot = Ballot.of(CopiedColors(GRID, 1, colors, ANCHORED.to(torch.uint8).expand(3, 4, 3), light, lit=(1,)))
    anchored = ballot.anchored(ballot.anchors_at(class_ids))
    chosen = own_places().view(1, GRID.height, GRID.width)
    picture = copied(chosen, class_ids.float(), anchored, ballot.light_at(class_ids), ballot)
    expected = torch.where(class_ids[0] == shown[:, 3], shown[:, :3].T, ANCHORED[:, None]) + 7 * (class_ids[0] == 1)
    assert torch.equal(picture[0, :, 0].long(), expected.clamp(max=255))


def test_agreement_is_the_share_of_votes_for_the_pixels_class() -> None:
    colors = random_colors(1)
    left = torch.arange(GRID.pixels) % GRID.width < 7
    colors[own_places()[0].long(), 3] = torch.where(left, 0, 1).to(torch.uint8)
    quality = torch.full((1, GRID.pixels), 64.0)
    shown = torch.where(left, 0.0, 1.0)
    assert (voted(own_places(), quality, colors, shown).agreement == AGREED).all()
    assert (voted(own_places(), quality, colors, 1 - shown).agreement == 0).all()
    # One column copies the other class. Of votes of 5, 8 and 5 it keeps 10 of 18, its neighbors 8 of 13 and 13 of 18.
    moved = own_places().clone().view(-1, GRID.height, GRID.width)
    moved[:, :, 3] += 8
    partly = voted(moved.flatten(1), quality, colors, shown).agreement.view(GRID.height, GRID.width)
    assert torch.equal(partly[5, :8], torch.tensor([16.0, 3.0, 16.0, 1.0, 16.0, 7.0, 16.0, 16.0]))


def test_better_matches_count_more() -> None:
    qualities = quality_of(torch.tensor([0.0, 256.0, 2560.0, 1e9]), 256.0)
    assert qualities.tolist() == [BEST_QUALITY, 16.0, 1.0, 1.0]


def test_votes_are_whole_numbers_that_float32_adds_exactly() -> None:
    qualities = quality_of(torch.arange(20_000.0), 256.0)
    assert torch.equal(qualities, qualities.round())
    assert set(qualities.tolist()) <= set(range(1, int(BEST_QUALITY) + 1))
    assert torch.equal(qualities.sort(descending=True).values, qualities)
    assert BEST_QUALITY * 255 * (5 + 8 + 5) ** 2 < 2**24

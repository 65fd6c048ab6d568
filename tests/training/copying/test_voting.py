import pytest
import torch
from torch import Tensor

from semia.training.copying import voting
from semia.training.copying.grid import Grid
from semia.training.copying.voting import BEST_QUALITY, SPREAD, Ballot, quality_of, vote

GRID = Grid(2, 12, 15, margin=SPREAD)


def random_colors(classes: int) -> Tensor:
    """What `CopiedColors.widened` gives: every place has a color and a class."""
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (2, 3, 12, 15), generator=random)
    ids = torch.randint(0, classes, (2, 1, 12, 15), generator=random)
    return GRID.table(torch.cat([pictures, ids], dim=1))


def draw(chosen: Tensor, quality: Tensor, colors: Tensor, class_ids: Tensor) -> Tensor:
    """The vote of pixels ``[N, 180]``; what no class votes for copies the second picture's first place."""
    shape = (-1, GRID.height, GRID.width)
    anchors = torch.full_like(chosen, int(GRID.inside()[1, 0]))
    return vote(chosen.view(shape), quality.view(shape), class_ids.view(shape), anchors, Ballot.of(GRID, colors))


def own_places(number: int = 1) -> Tensor:
    return GRID.inside()[:1].expand(number, -1)


@pytest.mark.parametrize("at_once", [voting.VOTES_AT_ONCE, 2 * GRID.pixels])
def test_a_color_is_the_exact_mean_of_its_own_classs_votes(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(voting, "VOTES_AT_ONCE", at_once)
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
                anchored = colors[int(GRID.inside()[1, 0]), :3].long()
                expected = (2 * total + count) // (2 * count) if count else anchored  # rounded, halves up
                assert drawn[layout, :, row, column].long().tolist() == expected.tolist()


def test_a_coherent_copy_gives_the_photograph_back() -> None:
    colors = random_colors(4)
    shown = colors[own_places()[0].long()]
    quality = torch.full((1, GRID.pixels), 17.0)
    drawn = draw(own_places(), quality, colors, shown[None, :, 3])
    assert torch.equal(drawn[0].flatten(1), shown[:, :3].T)


def test_other_classes_have_no_vote() -> None:
    colors = random_colors(1)
    left = torch.arange(GRID.pixels) % GRID.width < 7
    places = own_places()[0].long()
    colors[places, :3] = torch.where(left, 10.0, 200.0)[:, None].expand(-1, 3)
    colors[places, 3] = torch.where(left, 0.0, 1.0)
    drawn = draw(own_places(), torch.full((1, GRID.pixels), 64.0), colors, torch.where(left, 0.0, 1.0))
    assert set(drawn.flatten().tolist()) == {10.0, 200.0}
    assert torch.equal(drawn[0, 0].flatten() == 10, left)


def test_without_any_vote_a_pixel_is_its_classs_anchor() -> None:
    colors = random_colors(2)
    drawn = draw(own_places(), torch.full((1, GRID.pixels), 64.0), colors, torch.full((GRID.pixels,), 9.0))
    anchored = colors[int(GRID.inside()[1, 0]), :3]
    assert (drawn[0].flatten(1) == anchored[:, None]).all()


def test_better_matches_count_more() -> None:
    qualities = quality_of(torch.tensor([0.0, 256.0, 2560.0, 1e9]), 256.0)
    assert qualities.tolist() == [BEST_QUALITY, 16.0, 1.0, 1.0]


def test_votes_are_whole_numbers_that_float32_adds_exactly() -> None:
    qualities = quality_of(torch.arange(20_000.0), 256.0)
    assert torch.equal(qualities, qualities.round())
    assert set(qualities.tolist()) <= set(range(1, int(BEST_QUALITY) + 1))
    assert torch.equal(qualities.sort(descending=True).values, qualities)
    assert BEST_QUALITY * 255 * (5 + 8 + 5) ** 2 < 2**24

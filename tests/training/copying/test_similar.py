import pytest
import torch

from semia.training.copying.grid import Grid
from semia.training.copying.levels import cost_digits, cost_rows
from semia.training.copying.similar import APART, SIMILAR, similar_places

GRID = Grid(variants=2, height=21, width=30, margin=3)


@pytest.fixture(scope="module")
def descriptors() -> torch.Tensor:
    """Of places, whole numbers; the plain photograph repeats itself 12 pixels to the right."""
    stream = torch.Generator().manual_seed(0)
    pictures = torch.randint(-100, 100, (GRID.variants, 5, GRID.height, GRID.width), generator=stream)
    pictures[0, :, :, 12:24] = pictures[0, :, :, :12]
    return GRID.table(pictures).to(torch.int8)


@pytest.fixture(scope="module")
def similar(descriptors: torch.Tensor) -> torch.Tensor:
    digits = cost_digits(descriptors.float().square().sum(1))
    return similar_places(cost_rows(torch.cat([digits, descriptors], dim=1)), GRID)


def test_a_repetition_is_found_from_both_sides(similar: torch.Tensor) -> None:
    home = GRID.inside()[0].view(GRID.height, GRID.width)
    assert torch.equal(similar[0, 0, :, :12], home[:, :12] + 12)
    assert torch.equal(similar[0, 0, :, 12:24], home[:, 12:24] - 12)


def test_the_nearest_place_of_the_plain_photograph_is_found(descriptors: torch.Tensor, similar: torch.Tensor) -> None:
    home, variant = GRID.inside()
    distances = (descriptors[variant[0]].float() - descriptors[home.long()].float()).square().sum(1)
    assert similar[1, 0, 0, 0] == home[distances.argmin()]


def test_places_are_apart(similar: torch.Tensor) -> None:
    assert similar.shape == (GRID.variants, SIMILAR, GRID.height, GRID.width)
    rows, columns = similar[:, :, ::2, ::2] // GRID.stride, similar[:, :, ::2, ::2] % GRID.stride
    away = torch.maximum((rows[:, 0] - rows[:, 1]).abs(), (columns[:, 0] - columns[:, 1]).abs())
    assert away.min() > APART


def test_pixels_of_a_square_go_on_together(similar: torch.Tensor) -> None:
    assert torch.equal(similar[:, :, 1:20:2, 1::2], similar[:, :, 0:20:2, ::2] + GRID.stride + 1)

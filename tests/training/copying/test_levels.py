import pytest
import torch

from semia.training.copying.descriptors import LARGEST
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.grid import Grid
from semia.training.copying.levels import (
    COARSEST_SIDE,
    COST_DIGITS,
    DOUBT_COST,
    MARGIN_COST,
    OUTSIDE_COST,
    SEARCHED_PIXELS,
    VARIANT_COST,
    LevelDescriptors,
    SearchTables,
    Sizes,
    chessboard,
    colors_of,
    cost_digits,
    enlarged,
    reduced,
    widened,
)

CANVASES = [(280, 184), (184, 280), (570, 380), (640, 427), (33, 1000), (1000, 33), (2048, 1365), (32, 32), (96, 128)]


@pytest.mark.parametrize(("height", "width"), CANVASES)
def test_every_size_is_half_the_one_before(height: int, width: int) -> None:
    sizes = Sizes.of_canvas(height, width)
    multiple = 2**sizes.coarsest
    assert (sizes.height % multiple, sizes.width % multiple) == (0, 0)
    assert 0 <= sizes.height - height < multiple
    assert 0 <= sizes.width - width < multiple
    assert sizes.searched[0] == sizes.coarsest
    assert sizes.searched == sorted(sizes.searched, reverse=True)
    assert sizes.searched[-1] == sizes.finest < sizes.coarsest


@pytest.mark.parametrize(("height", "width"), CANVASES)
def test_the_smallest_size_is_small_and_the_finest_searched_is_the_finest_allowed(height: int, width: int) -> None:
    sizes = Sizes.of_canvas(height, width)
    assert COARSEST_SIDE / 2.3 < max(sizes.height, sizes.width) / 2**sizes.coarsest < COARSEST_SIDE * 1.5
    pixels = [(sizes.height >> halvings) * (sizes.width >> halvings) for halvings in range(sizes.finest + 1)]
    assert pixels[-1] <= SEARCHED_PIXELS
    assert all(more > SEARCHED_PIXELS for more in pixels[:-1])


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 6), (4, 7), (5, 7), (17, 17)])
def test_a_chessboard_has_every_pixel_and_merging_puts_all_in_place(height: int, width: int) -> None:
    halves, merged = chessboard(height, width)
    pixels = height * width
    assert torch.equal(halves.flatten()[merged], torch.arange(pixels).int())
    assert set(halves.flatten().tolist()) == set(range(pixels))
    assert halves.shape == (2, (pixels + 1) // 2)
    rows, columns = halves // width, halves % width
    assert torch.equal((rows + columns) % 2, torch.tensor([[0], [1]]).expand_as(halves))


def test_reducing_gives_rounded_means() -> None:
    picture = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    assert reduced(picture, 1).item() == 3  # of 2.5
    assert torch.equal(reduced(picture, 0), picture.float())


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_what_is_chosen_goes_on_at_a_finer_size(factor: int) -> None:
    """A choice of a variant's own places is, enlarged, again one of its own places; of single ones likewise."""
    grid, finer = Grid(3, 4, 6, margin=2), Grid(3, 4 * factor, 6 * factor, margin=10)
    own, expected = grid.inside(), finer.inside()
    assert torch.equal(enlarged(own, grid, finer), expected)
    mixed = own[:1].clone()
    mixed[0, 0] = own[1, grid.width + 2]
    square = enlarged(mixed, grid, finer).view(finer.height, finer.width)[:factor, :factor]
    one_down_two_right = expected[1].view(finer.height, finer.width)[factor : 2 * factor, 2 * factor : 3 * factor]
    assert torch.equal(square, one_down_two_right)


def test_colors_hold_levels_and_class_ids_in_bytes() -> None:
    grid = Grid(1, 2, 2, margin=1)
    pictures = torch.arange(12.0).view(1, 3, 2, 2) + 200
    colors = colors_of(grid, 1, pictures, torch.tensor([[[3, 0], [1, 2]]]))
    assert colors.dtype == torch.uint8
    assert colors[grid.inside()[0].long()].tolist() == [
        [200, 204, 208, 3], [201, 205, 209, 0], [202, 206, 210, 1], [203, 207, 211, 2]
    ]  # fmt: skip


def test_stored_colors_are_widened_exactly(copying: CopyingGenerator) -> None:
    for tables in copying.tables():
        assert torch.equal(widened(tables.colors), tables.colors.float())


def test_tables_have_a_row_for_every_place(copying: CopyingGenerator) -> None:
    for tables in copying.tables():
        places = tables.grid.variants * tables.grid.area
        assert len(tables.colors) == places
        if isinstance(tables, SearchTables):
            assert len(tables.rows) == places


def test_no_difference_is_worth_a_place_in_the_margin() -> None:
    for order in range(4):
        descriptors = LevelDescriptors(3, order)
        size = descriptors.fixed_size + descriptors.appearance.size
        assert size * (2 * LARGEST) ** 2 + (OUTSIDE_COST + 1 + DOUBT_COST) * VARIANT_COST < MARGIN_COST * VARIANT_COST
        assert MARGIN_COST * VARIANT_COST + 2 * size * LARGEST**2 < 2**24, "float32 adds it exactly"


def test_costs_are_exact_in_three_digits() -> None:
    costs = torch.tensor([0, 1, 127, 128, 255, 256, 32_767, 32_768, 65_535, 3_649_999, 127 * (65536 + 256 + 1)])
    digits = cost_digits(costs)
    assert digits.dtype == torch.int8
    assert torch.equal((digits.long() * torch.tensor(COST_DIGITS)).sum(1), costs)

import torch

from semia.training.copying.grid import Grid, Windows, quotient

GRID = Grid(variants=3, height=4, width=5, margin=2)


def test_places_are_numbered_row_by_row_with_margins_around() -> None:
    numbers = torch.arange(3 * 8 * 9).view(3, 8, 9)
    assert torch.equal(GRID.inside(), numbers[:, 2:-2, 2:-2].flatten(1).int())
    assert (GRID.stride, GRID.rows, GRID.area, GRID.pixels) == (9, 8, 72, 20)


def test_a_margins_width_beyond_an_edge_is_still_the_same_picture() -> None:
    inside = GRID.inside()
    for down in (-2, 2):
        for right in (-2, 2):
            there = inside + down * GRID.stride + right
            assert torch.equal(there // GRID.area, torch.arange(3)[:, None].expand(3, 20).int())


def test_a_table_shows_each_picture_in_its_places_and_edges_in_its_margins() -> None:
    pictures = torch.randint(0, 256, (3, 2, 4, 5), generator=torch.Generator().manual_seed(0)).float()
    table = GRID.table(pictures)
    assert table.shape == (3 * 72, 2)
    shown = table[GRID.inside().long()]  # [3, 20, 2]
    assert torch.equal(shown, pictures.flatten(2).transpose(1, 2))
    rows = table.view(3, 8, 9, 2)
    assert torch.equal(rows[:, 0, 0], pictures[:, :, 0, 0])
    assert torch.equal(rows[:, -1, 4], pictures[:, :, -1, 2])


def test_windows_look_around_pixels_and_see_what_lies_beyond_the_canvas() -> None:
    values = torch.arange(2 * 3 * 4).view(2, 3, 4) + 10
    pixels = torch.tensor([0, 6, 11], dtype=torch.int32)
    seen = Windows.around(pixels, 4, [(0, 0), (-1, 0), (1, 2)]).of(values, -1)
    # Rows of pixel 0, 6 and 11 itself, of what is above, of what is a row down and two columns right.
    assert seen[0].tolist() == [[10, 16, 21], [-1, 12, 17], [16, -1, -1]]
    assert torch.equal(seen[1], torch.where(seen[0] < 0, -1, seen[0] + 12))


def test_quotients_are_exact() -> None:
    divisors = (1, 7, 29, 308, 1001)
    for divisor in divisors:
        multiples = torch.arange(0, 2**24 - divisor, divisor * max(1, 9000 // divisor), dtype=torch.int32)
        for more in (0, divisor - 1):
            assert torch.equal(quotient(multiples + more, divisor), (multiples + more) // divisor)

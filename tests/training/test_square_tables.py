import torch

from training.square_tables import look_up, sample, squares


def test_sampling_at_whole_pixels_is_exact_and_between_them_linear() -> None:
    pictures = torch.randint(0, 256, (2, 5, 6, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    table = squares(pictures)
    planes = pictures.permute(0, 3, 1, 2).float()
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    assert torch.equal(sample(table, y[None], x[None], 6)[0], planes[0])
    assert torch.equal(sample(table, y[None], x[None], 6, torch.full((1, 5, 6), 30))[0], planes[1])
    between = sample(table, torch.tensor([[[1.25]]]), torch.tensor([[[2.5]]]), 6)[0, :, 0, 0]
    corners = planes[0, :, 1:3, 2:4].mean(2)
    assert torch.allclose(between, 0.75 * corners[:, 0] + 0.25 * corners[:, 1])


def test_squares_repeat_the_last_row_and_column() -> None:
    table = squares(torch.arange(6).view(2, 3, 1))
    assert table.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [2, 2, 5, 5], [3, 4, 3, 4], [4, 5, 4, 5], [5, 5, 5, 5]]


def test_rows_are_looked_up_as_planes() -> None:
    table = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    index = torch.tensor([[[0, 2]], [[1, 1]]])
    assert look_up(table, index).tolist() == [[[[1.0, 3.0]], [[10.0, 30.0]]], [[[2.0, 2.0]], [[20.0, 20.0]]]]

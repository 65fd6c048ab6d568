import torch

from semia.training.copying.outline import relative_positions


def piece(height: int, width: int) -> torch.Tensor:
    """A rectangle of class 1 in a canvas of class 0, int64 ``[1, 24, 40]``."""
    class_ids = torch.zeros(1, 24, 40, dtype=torch.int64)
    class_ids[:, 4 : 4 + height, 6 : 6 + width] = 1
    return class_ids


def test_positions_run_from_end_to_end_of_a_piece() -> None:
    down, right = relative_positions(piece(5, 9))[0]
    assert torch.equal(right[6, 6:15], torch.tensor([-8, -6, -4, -2, 0, 2, 4, 6, 8]) / 9)
    assert torch.equal(down[4:9, 10], torch.tensor([-4, -2, 0, 2, 4]) / 5)


def test_a_wider_piece_has_the_same_positions() -> None:
    narrow = relative_positions(piece(4, 5))[0, 1, 5, 6:11]
    wide = relative_positions(piece(4, 15))[0, 1, 5, 6:21]
    assert torch.allclose(wide.view(5, 3).mean(1), narrow)


def test_pieces_beside_each_other_are_told_apart() -> None:
    class_ids = piece(4, 5) | piece(4, 5).roll(9, 2)
    right = relative_positions(class_ids)[0, 1, 5]
    assert torch.equal(right[6:11], right[15:20])
    assert right[11:15].tolist() == [-0.75, -0.25, 0.25, 0.75], "what lies between them is a piece of its own"


def test_a_class_everywhere_and_a_single_pixel() -> None:
    positions = relative_positions(torch.zeros(2, 1, 5, dtype=torch.int64))
    assert torch.equal(positions[:, 0], torch.zeros(2, 1, 5))
    assert torch.allclose(positions[0, 1, 0], torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8]))

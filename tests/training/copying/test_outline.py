import pytest
import torch
import torch.nn.functional as F

from semia.training.copying.outline import AGREED, outline_softness, relative_positions, soften_outlines


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


STEP = torch.zeros(1, 6, 8, dtype=torch.int64)
STEP[..., 4:] = 1
"""A layout with an outline in its middle, ``[1, 6, 8]``."""

SOFTEST = torch.tensor([AGREED], dtype=torch.uint8)


def test_outlines_are_softened_where_patches_disagree() -> None:
    picture = STEP[:, None].expand(-1, 3, -1, -1) * 160.0
    kept = torch.full((1, 1, 6, 8), float(AGREED))
    assert torch.equal(soften_outlines(picture, STEP, kept, SOFTEST), picture)
    softened = soften_outlines(picture, STEP, kept * 0, SOFTEST)
    assert torch.equal(softened[0, 0], torch.tensor([0.0, 0, 0, 40, 120, 160, 160, 160]).expand(6, -1))
    halfway = soften_outlines(picture, STEP, kept / 2, SOFTEST)
    assert torch.equal(halfway[0, 2, 3], torch.tensor([0.0, 0, 0, 20, 140, 160, 160, 160]))
    assert torch.equal(soften_outlines(picture, STEP, kept * 0, SOFTEST // 2), halfway)
    slope = torch.arange(8.0).square().expand(1, 3, 6, 8)
    assert torch.equal(soften_outlines(slope, STEP * 0, kept * 0, SOFTEST), slope), (
        "without outlines nothing is blurred"
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_photographs_softness_is_measured_at_its_outlines(turned: bool) -> None:
    ids, hard = STEP[0], (STEP.expand(3, -1, -1) * 200.0 + 20)
    taps = torch.tensor([1.0, 2, 1]).view(1, 1, 1, 3).expand(3, -1, -1, -1) / 4
    soft = F.conv2d(F.pad(hard, (1, 1, 0, 0), mode="replicate")[None], taps, groups=3)[0]
    for image, softness in ((hard, 0), (soft, AGREED), ((hard + soft) / 2, AGREED // 2)):
        photograph, layout = (image.transpose(1, 2), ids.T) if turned else (image, ids)
        assert outline_softness(photograph, layout) == softness


def test_a_photograph_without_outlines_counts_as_a_cameras() -> None:
    assert outline_softness(torch.rand(3, 6, 8), torch.zeros(6, 8, dtype=torch.int64)) == AGREED
    assert outline_softness(torch.rand(3, 3, 2), torch.zeros(3, 2, dtype=torch.int64)) == AGREED

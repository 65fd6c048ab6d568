"""Which labels a color speaks against, and what that does to what is copied."""

import torch
from torch import Tensor

from semia.training.copying.doubt import is_doubtful

SKY, TREE, NOSE = 0, 1, 2
BLUE, GREEN = (180.0, 200.0, 240.0), (30.0, 80.0, 20.0)


def scene() -> tuple[Tensor, Tensor]:
    """A sky above a wood, with a little noise, float32 ``[3, 96, 96]`` and int64 ``[96, 96]``."""
    ids = torch.full((96, 96), SKY)
    ids[48:] = TREE
    noise = torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(0)) * 4
    return painted(ids, {SKY: BLUE, TREE: GREEN}) + noise, ids


def painted(ids: Tensor, colors: dict[int, tuple[float, float, float]]) -> Tensor:
    return torch.tensor([colors[each] for each in range(len(colors))])[ids].permute(2, 0, 1).float()


def test_sky_between_leaves_is_doubted_and_nothing_else() -> None:
    picture, ids = scene()
    picture[:, 50:53, 30:34] = torch.tensor(BLUE)[:, None, None]
    expected = torch.zeros(96, 96, dtype=torch.bool)
    expected[50:53, 30:34] = True
    assert torch.equal(is_doubtful(picture.clamp(0, 255), ids, 3), expected)


def test_an_outline_that_was_drawn_too_wide_is_doubted() -> None:
    picture, ids = scene()
    ids[46:48] = TREE  # two rows of the sky
    doubted = is_doubtful(picture.clamp(0, 255), ids, 2)
    assert doubted[46:48].all()
    assert not doubted[48:].any()
    assert not doubted[:46].any()


def test_what_is_like_another_class_far_away_is_not_doubted() -> None:
    picture, ids = scene()
    picture[:, 90:93, 30:34] = torch.tensor(BLUE)[:, None, None]  # a pond
    assert not is_doubtful(picture.clamp(0, 255), ids, 2).any()


def test_a_small_class_with_the_colors_of_a_large_one_is_not_doubted() -> None:
    picture, ids = scene()
    ids[70:76, 40:46] = NOSE
    assert not is_doubtful(picture.clamp(0, 255), ids, 3).any()

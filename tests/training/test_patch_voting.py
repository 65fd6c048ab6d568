import pytest
import torch
from torch import Tensor

from training.patch_voting import hann_weights, vote

TOKEN = 4


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))


def offsets(value: int) -> Tensor:
    return torch.full((6, 8), value)


def test_no_offsets_copy_the_image_to_itself(image: Tensor) -> None:
    assert torch.allclose(vote(image, offsets(0), offsets(0), TOKEN), image, atol=1e-6)


def test_equal_offsets_shift_the_image(image: Tensor) -> None:
    shifted = vote(image, offsets(3), offsets(-2), TOKEN)
    assert torch.allclose(shifted[:, :-3, 2:], image[:, 3:, :-2], atol=1e-6)


def test_a_lone_vote_is_overruled_not_averaged() -> None:
    image = torch.zeros(3, 24, 32)
    image[:, :, 16:] = 1
    columns = offsets(0)
    columns[3, 1] = 16  # one token of the dark half that copies the bright one: two fifths of its pixels' votes
    painted = vote(image, offsets(0), columns, TOKEN)
    assert (painted[:, :, :16] < 0.01).all()
    assert (painted[:, :, 16:] > 0.99).all()


def test_a_pixel_counts_its_own_token_most() -> None:
    weights = hann_weights(TOKEN)
    assert weights.shape == (9, TOKEN, TOKEN)
    assert (weights.argmax(0) == 4).all()
    assert torch.allclose(weights, weights.flip(0, 1, 2))

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.composition import Photograph, compose, label_windows, source_places
from training.copying_generator import CopyingGenerator
from training.pixels import colours_from_ids
from training.source_tokens import GUARD, SourceTokens

Field = Callable[..., NDArray[np.uint8]]
TOKEN = 4


@pytest.fixture(scope="module")
def fine(copying: CopyingGenerator) -> SourceTokens:
    with torch.no_grad():
        return copying.source_tokens()[0]


@pytest.fixture(scope="module")
def photograph(copying: CopyingGenerator) -> Photograph:
    return copying.photograph()


def at_home(source: SourceTokens) -> Tensor:
    """Every token copies itself, ``[1, 24, 32]``."""
    return ((torch.arange(24)[:, None] + GUARD) * source.stride + torch.arange(32) + GUARD)[None]


def as_ids(layout: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(layout)[None].long()


def test_tokens_that_copy_themselves_give_whole_places_and_the_photograph(
    copying: CopyingGenerator, fine: SourceTokens, photograph: Photograph, field: Field
) -> None:
    target = as_ids(field((40, 24)))
    y, x = source_places(target, at_home(fine), fine, photograph, TOKEN)
    assert torch.equal(y[0], torch.arange(96.0)[:, None].expand(96, 128))
    assert torch.equal(x[0], torch.arange(128.0).expand(96, 128))
    assert (compose(target, at_home(fine), fine, photograph, TOKEN) - copying.image).abs().max() < 1e-5


def test_a_seam_is_sharp(fine: SourceTokens, photograph: Photograph, field: Field) -> None:
    chosen = at_home(fine)
    chosen[..., 16:] -= 8  # the right half copies what is 32 pixels to its left
    x = source_places(as_ids(field()), chosen, fine, photograph, TOKEN)[1]
    moved = x[0] - torch.arange(128)
    assert set(moved[:16].flatten().tolist()) == {0.0, -32.0}


def test_small_differences_are_bent_not_cut(fine: SourceTokens, photograph: Photograph, field: Field) -> None:
    bent = fine.centres.clone()
    chosen = at_home(fine)
    bent[chosen[0, :, 16:], 1] += 1  # the right half comes from one pixel further right
    shifted = dataclasses.replace(fine, centres=bent)
    x = source_places(as_ids(field()), chosen, shifted, photograph, TOKEN)[1]
    moved = (x[0] - torch.arange(128))[4, :120]
    assert moved[50] == 0
    assert moved[78] == 1
    assert (moved.diff() >= 0).all()
    assert moved.diff().max() < 0.5


def test_windows_average_colours() -> None:
    ids = torch.zeros(1, 8, 8, dtype=torch.int64)
    ids[..., 4:] = 1
    windows = label_windows(colours_from_ids(ids, torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])))
    assert windows[0, :, 3, 0].tolist() == pytest.approx([-1, 0, 1])
    assert windows[0, 0, 3, 3] == pytest.approx(-1 + 2 * 2 / 5)


def test_borders_cut_through_layers_are_softened_by_a_pixel_alone(
    fine: SourceTokens, photograph: Photograph, field: Field
) -> None:
    target = as_ids(field((40, 24)))
    target[0, 4:12, 90:110] = 2  # a box in the sky, painted with whatever is at that place
    image = compose(target, at_home(fine), fine, photograph, TOKEN)[0].permute(1, 2, 0)
    own = photograph.layers[:, :3].view(-1, 96, 128, 3) / 127.5 - 1
    assert torch.allclose(image[6:10, 92:108], own[2, 6:10, 92:108], atol=1e-6)
    edge = image[8, 90]
    assert not torch.allclose(edge, own[2, 8, 90], atol=0.02)
    assert not torch.allclose(edge, own[0, 8, 90], atol=0.02)

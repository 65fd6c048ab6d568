import pytest
import torch
from torch import Tensor

from semia.training.copying.variants import VARIANTS, Variant, shows_photograph, warp


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float()


def test_the_first_is_the_photograph_itself() -> None:
    picture = noise(3, 12, 17)
    assert torch.equal(warp(picture, VARIANTS[0]), picture)


@pytest.mark.parametrize("width", [16, 17])
def test_mirroring_turns_left_and_right_around(width: int) -> None:
    picture = noise(3, 12, width)
    mirrored = warp(picture, Variant(mirrored=True))
    assert torch.allclose(mirrored, picture.flip(2), atol=0.01)
    assert torch.allclose(warp(mirrored, Variant(mirrored=True)), picture, atol=0.01)


def test_what_is_scaled_up_and_down_again_is_about_as_it_was() -> None:
    ramp = torch.arange(40.0)[None, None].expand(1, 30, 40)
    there = warp(ramp, Variant(scale=2.0))
    assert there[0, 15, 21] - there[0, 15, 19] == pytest.approx(1, abs=0.01)  # two pixels for one
    back = warp(there, Variant(scale=0.5))
    assert torch.allclose(back[:, 10:20, 12:28], ramp[:, 10:20, 12:28], atol=0.1)


def test_stretching_makes_wider_and_no_higher() -> None:
    ramps = torch.stack(torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij"))
    rows, columns = warp(ramps, Variant(stretch=0.5))
    assert torch.allclose(rows, ramps[0], atol=0.01)
    assert columns[15, 21] - columns[15, 19] == pytest.approx(4, abs=0.01)  # four pixels for two


def test_a_turn_by_90_degrees_is_a_quarter_turn_around_the_center() -> None:
    picture = noise(1, 9, 9)
    turned = warp(picture, Variant(degrees=90))
    assert torch.allclose(turned, torch.rot90(picture, 1, (1, 2)), atol=0.01) or torch.allclose(
        turned, torch.rot90(picture, -1, (1, 2)), atol=0.01
    )
    assert not torch.allclose(turned, picture, atol=1)


def test_class_ids_stay_class_ids() -> None:
    ids = torch.randint(0, 4, (1, 20, 30), generator=torch.Generator().manual_seed(1)).float() * 5
    for variant in VARIANTS:
        assert set(warp(ids, variant, "nearest").flatten().tolist()) <= {0.0, 5.0, 10.0, 15.0}


def test_the_photograph_shows_all_but_the_padding() -> None:
    shown = shows_photograph(16, 24, VARIANTS[0], (13, 21))
    assert shown[:13, :21].all()
    assert shown.sum() == 13 * 21


def test_a_mirrored_photograph_has_its_padding_at_the_left() -> None:
    shown = shows_photograph(16, 24, Variant(mirrored=True), (13, 21))
    assert shown[:13, 3:].all()
    assert shown.sum() == 13 * 21


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_what_is_said_to_be_shown_is_neither_padding_nor_outside(variant: Variant) -> None:
    # On a canvas that is larger by 10 pixels on every side, and without what is half a pixel beyond the photograph.
    photograph, core = torch.zeros(1, 60, 68), torch.zeros(1, 60, 68)
    photograph[:, 10:43, 10:51] = 1
    core[:, 11:42, 11:50] = 1
    shown = shows_photograph(40, 48, variant, (33, 41))
    seen, seen_core = (warp(mask, variant, "nearest")[0, 10:-10, 10:-10] for mask in (photograph, core))
    assert seen[shown].all()
    assert not seen_core[~shown].any()
    assert 0 < shown.sum() < shown.numel()


def test_a_reduced_photograph_is_smoothed_first() -> None:
    stripes = (torch.arange(64) % 2).float()[None, None].expand(1, 48, 64) * 255
    reduced = warp(stripes, Variant(scale=0.5))[0, 20:28, 24:40]
    assert (reduced - 127.5).abs().max() < 1

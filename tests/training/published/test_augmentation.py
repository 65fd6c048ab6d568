import dataclasses

import pytest
import torch

from semia.training.errors import SettingsError
from semia.training.published.augmentation import (
    AugmentationSettings,
    draw_grid,
    identity_grid,
    spline_displacement,
    warp,
    warp_ids,
)

CPU = torch.device("cpu")
NOTHING = AugmentationSettings(
    flip_probability=0, max_zoom=0, spline_probability=0, max_spline_offset=0, max_rotation_degrees=0, max_shift=0
)


def picture() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand(1, 3, 24, 40)


def test_strength_zero_changes_nothing() -> None:
    image = picture()
    grid = draw_grid(AugmentationSettings(), 0.0, 24, 40, CPU)
    assert torch.allclose(warp(image, grid), image, atol=1e-5)


def test_bicubic_keeps_more_texture_than_bilinear_and_stays_in_range() -> None:
    image = picture() * 2 - 1
    grid = identity_grid(24, 40, CPU) + torch.tensor([1 / 40, 1 / 24])  # half a pixel, where bilinear dulls most
    dulled, kept = warp(image, grid), warp(image, grid, "bicubic")
    assert dulled.std() < 0.9 * kept.std()
    assert kept.abs().max() <= 1


def test_a_sure_flip_mirrors() -> None:
    image = picture()
    grid = draw_grid(dataclasses.replace(NOTHING, flip_probability=1), 1.0, 24, 40, CPU)
    assert torch.allclose(warp(image, grid), image.flip(3), atol=1e-5)


def test_image_and_labels_move_together() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 4, (1, 3, 5)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    for _ in range(20):
        grid = draw_grid(dataclasses.replace(AugmentationSettings(), max_shift=0.2), 1.0, 24, 40, CPU)
        moved = warp_ids(ids, grid)
        painted = warp(ids.unsqueeze(1).float(), grid)[:, 0]
        assert set(moved.flatten().tolist()) <= {0, 1, 2, 3}
        # Away from borders, where bilinear sampling blends, both tell the same class.
        flat = (painted - painted.round()).abs() < 1e-3
        assert (moved[flat] == painted[flat].round()).float().mean() > 0.97
        assert flat.float().mean() > 0.4


def test_a_rotation_is_rigid_in_pixels() -> None:
    settings = dataclasses.replace(NOTHING, max_rotation_degrees=30)
    torch.manual_seed(1)
    grid = draw_grid(settings, 1.0, 24, 40, CPU)[0]
    pixels = grid * torch.tensor([20.0, 12.0])  # half the sides, in pixels
    along_x = (pixels[0, 1] - pixels[0, 0]).norm()
    along_y = (pixels[1, 0] - pixels[0, 0]).norm()
    assert along_x.item() == pytest.approx(1, abs=1e-4)
    assert along_y.item() == pytest.approx(1, abs=1e-4)


def test_a_zoom_enlarges_about_the_center() -> None:
    settings = dataclasses.replace(NOTHING, max_zoom=0.5)
    torch.manual_seed(0)
    grid = draw_grid(settings, 1.0, 24, 40, CPU)
    extent = grid[0, 0, -1, 0].item() / identity_grid(24, 40, CPU)[0, 0, -1, 0].item()
    assert 1 / 1.5 <= extent < 1


def test_the_spline_passes_through_its_control_points() -> None:
    offsets = torch.rand(3, 3, 2) * 0.2 - 0.1
    axis = torch.linspace(-1, 1, 3)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).unsqueeze(0)
    assert torch.allclose(spline_displacement(points, offsets)[0], offsets, atol=1e-4)


def test_the_seed_decides() -> None:
    settings = dataclasses.replace(AugmentationSettings(), max_shift=0.1)
    torch.manual_seed(7)
    first = draw_grid(settings, 0.8, 24, 40, CPU)
    torch.manual_seed(7)
    assert torch.equal(draw_grid(settings, 0.8, 24, 40, CPU), first)
    assert not torch.equal(draw_grid(settings, 0.8, 24, 40, CPU), first)


@pytest.mark.parametrize("change", [{"flip_probability": 1.5}, {"max_zoom": -0.1}, {"max_shift": float("nan")}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        AugmentationSettings(**change)

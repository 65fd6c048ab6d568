"""Progressive augmentation T: image and labels bent together (Li et al. 2020, section 3.5).

A transformation is one sampling grid, made of a flip, a zoom, an optional rotation and shift, and a
thin-plate spline; image and labels are sampled once through it, on whatever device they are on.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.errors import SettingsError

Interpolation = Literal["bilinear", "bicubic"]
"""Bicubic keeps an image's texture, bilinear dulls it."""

SPLINE_SIDE = 3  # control points along each side of the thin-plate spline's grid


@dataclass(frozen=True)
class AugmentationSettings:
    """How strong the transformations are once the progressive schedule has reached its end."""

    flip_probability: float = 0.5  # of a horizontal flip
    max_zoom: float = 0.2  # the scale is uniform in [1, 1 + max_zoom]
    spline_probability: float = 0.5  # of a thin-plate-spline warp; the schedule does not scale it
    max_spline_offset: float = 0.02  # of each control point, as a share of the width
    max_rotation_degrees: float = 0.0  # either way; off in the published method
    max_shift: float = 0.0  # either way, as a share of each side; off in the published method

    def __post_init__(self) -> None:
        for name in ("flip_probability", "spline_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingsError(f"{name} must be within [0, 1], not {getattr(self, name)}")
        for name in ("max_zoom", "max_spline_offset", "max_rotation_degrees", "max_shift"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must not be negative, but is {getattr(self, name)}")


def draw_grid(settings: AugmentationSettings, strength: float, height: int, width: int, device: torch.device) -> Tensor:
    """Draw a transformation at ``strength`` q in [0, 1] as a sampling grid ``[1, H, W, 2]`` for `warp`.

    Every random number comes from PyTorch's global CPU generator, so the same seed draws the same
    transformation on every device.
    """
    flip, zoom, rotation, spline = torch.rand(4).tolist()
    shift = (torch.rand(2) * 2 - 1) * 2 * settings.max_shift * strength
    offsets = (torch.rand(SPLINE_SIDE, SPLINE_SIDE, 2) * 2 - 1) * 2 * settings.max_spline_offset * strength
    offsets[:: SPLINE_SIDE - 1, :: SPLINE_SIDE - 1] = 0  # corners are held still
    offsets[..., 1] *= width / height  # a share of the width on both axes, in units of half the height

    grid = identity_grid(height, width, device)
    if spline < settings.spline_probability and strength > 0:
        grid = grid + spline_displacement(grid, offsets.to(device))
    aspect = width / height
    angle = math.radians(settings.max_rotation_degrees) * strength * (2 * rotation - 1)
    scale = 1 / (1 + settings.max_zoom * strength * zoom)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    mirror = -1.0 if flip < settings.flip_probability * strength else 1.0
    # Rotation is rigid in pixels; the grid's units differ by the aspect ratio between the axes.
    x, y = grid.unbind(-1)
    rotated = torch.stack([mirror * (cos * x - sin * y / aspect), sin * x * aspect + cos * y], dim=-1)
    return rotated + shift.to(device)


def identity_grid(height: int, width: int, device: torch.device) -> Tensor:
    """The sampling grid ``[1, H, W, 2]`` that changes nothing: pixel centers in [-1, 1], (x, y)."""
    y = (torch.arange(height, device=device) * 2 + 1) / height - 1
    x = (torch.arange(width, device=device) * 2 + 1) / width - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).unsqueeze(0)


def warp(image: Tensor, grid: Tensor, interpolation: Interpolation = "bilinear") -> Tensor:
    """Sample ``[1, C, H, W]`` through a grid ``[1, H, W, 2]``, mirrored at the border; in [-1, 1] if bicubic."""
    sampled = F.grid_sample(image, grid, mode=interpolation, padding_mode="reflection", align_corners=False)
    return sampled.clamp(-1, 1) if interpolation == "bicubic" else sampled  # bicubic overshoots at edges


def warp_ids(class_ids: Tensor, grid: Tensor) -> Tensor:
    """Sample class ids ``[1, H, W]`` through the same grid: nearest, mirrored at the border, ids stay exact."""
    values = class_ids.unsqueeze(1).float()
    sampled = F.grid_sample(values, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    return sampled.squeeze(1).to(class_ids.dtype)


def spline_displacement(grid: Tensor, offsets: Tensor) -> Tensor:
    """The thin-plate spline through control-point offsets ``[3, 3, 2]``, evaluated at ``[1, H, W, 2]``.

    Bookstein 1989: radial terms r² log r plus an affine part, with side conditions that make the
    solution the one of least bending.
    """
    axis = torch.linspace(-1, 1, SPLINE_SIDE, device=offsets.device)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    affine = torch.cat([torch.ones_like(points[:, :1]), points], dim=1)
    system = torch.zeros(len(points) + 3, len(points) + 3, device=offsets.device)
    system[: len(points), : len(points)] = _radial(points, points)
    system[: len(points), len(points) :] = affine
    system[len(points) :, : len(points)] = affine.T
    values = torch.cat([offsets.reshape(-1, 2), torch.zeros(3, 2, device=offsets.device)])
    coefficients = torch.linalg.solve(system, values)

    positions = grid.reshape(-1, 2)
    terms = torch.cat([_radial(positions, points), torch.ones_like(positions[:, :1]), positions], dim=1)
    displacement: Tensor = (terms @ coefficients).reshape(grid.shape)
    return displacement


def _radial(positions: Tensor, points: Tensor) -> Tensor:
    """r² log r between ``[M, 2]`` positions and ``[P, 2]`` points, as ``[M, P]``; 0 at r = 0."""
    squared = ((positions.unsqueeze(1) - points) ** 2).sum(-1)
    return 0.5 * squared * torch.log(squared.clamp_min(1e-12))

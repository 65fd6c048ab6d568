"""The photograph's variants: what may be copied beside the photograph itself, mirrored, scaled and turned."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Variant:
    """A linear map of the plane that keeps the canvas's center."""

    scale: float = 1.0
    degrees: float = 0.0
    mirrored: bool = False
    stretch: float = 1.0  # how many times as wide as `scale` says, but no higher


VARIANTS = (
    Variant(),
    Variant(mirrored=True),
    Variant(scale=1.41),
    Variant(scale=0.6),
    Variant(stretch=0.71),
    Variant(degrees=20),
    Variant(degrees=-20),
)
"""The first is the photograph as it is."""

SMOOTHING = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
"""Before a picture is made smaller: finer detail would alias."""


def warp(pictures: Tensor, variant: Variant, mode: str = "bilinear") -> Tensor:
    """Pictures float32 ``[C, H, W]`` as a variant shows them; beyond the photograph its edge is repeated."""
    if variant == Variant():
        return pictures
    if variant.scale < 1 and mode == "bilinear":
        padded = F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")
        pictures = F.conv2d(padded, SMOOTHING[None, None])[:, 0]
    y, x = _sampled_places(pictures.shape[1], pictures.shape[2], variant)
    half_height, half_width = (pictures.shape[1] - 1) / 2, (pictures.shape[2] - 1) / 2
    places = torch.stack([x / max(half_width, 0.5), y / max(half_height, 0.5)], dim=-1)
    return F.grid_sample(pictures[None], places[None], mode=mode, padding_mode="border", align_corners=True)[0]


def warp_by_class(pictures: Tensor, shares: Tensor, class_ids: Tensor, variant: Variant) -> Tensor:
    """As `warp`, but no color is mixed from two classes: it would vote as one of them.

    Args:
        pictures: float32 ``[C, H, W]``.
        shares: of the classes, 0 or 1, float32 ``[K, H, W]``.
        class_ids: of the variant's pixels, ``[H, W]``.
        variant: which.
    """
    warped = warp(pictures, variant)
    if variant == Variant():
        return warped
    for class_id in torch.unique(class_ids).tolist():
        mask = shares[int(class_id)]
        weighed = warp(torch.cat([pictures * mask, mask[None]]), variant)
        own = (class_ids == class_id) & (weighed[-1] > 0)
        warped = torch.where(own, weighed[:-1] / weighed[-1].clamp(min=1e-6), warped)
    return warped


def shows_photograph(height: int, width: int, variant: Variant, shown: tuple[int, int]) -> Tensor:
    """Where a variant's pixels show the photograph, bool ``[H, W]``.

    Args:
        height: of the padded canvas.
        width: of the padded canvas.
        variant: which.
        shown: height and width of the photograph in the canvas's upper left corner; the rest is padding.
    """
    y, x = _sampled_places(height, width, variant)
    rows, columns = y + (height - 1) / 2, x + (width - 1) / 2
    tolerance = 1e-3
    inside_rows = (rows >= -tolerance) & (rows <= shown[0] - 1 + tolerance)
    return inside_rows & (columns >= -tolerance) & (columns <= shown[1] - 1 + tolerance)


def _sampled_places(height: int, width: int, variant: Variant) -> tuple[Tensor, Tensor]:
    """What a variant's pixels show: pixels down and right of the canvas's center, float32 ``[H, W]`` each."""
    angle = math.radians(variant.degrees)
    cosine, sine = math.cos(angle) / variant.scale, math.sin(angle) / variant.scale
    down = (torch.arange(height) - (height - 1) / 2)[:, None]
    right = (torch.arange(width) - (width - 1) / 2)[None]
    side = (-1 if variant.mirrored else 1) / variant.stretch
    return cosine * down - sine * right, (cosine * right + sine * down) * side

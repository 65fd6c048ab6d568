"""What color a class has where: its low frequencies, extended over the whole canvas.

A sky's gradient belongs to places, a zebra's stripes do not. How far low frequencies explain a class says which:
0.8 and more of the variance for skies, 0.1 to 0.3 for animals and buildings.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMAS = (0.03, 0.05, 0.08, 0.16, 0.32, 1.0)
"""Of the Gaussians, in canvas widths; the next wider one is used where one finds too little of the class."""

ENOUGH = 0.25
"""A Gaussian window with this share of the class or more is trusted wholly."""

LIGHT_SIGMAS = SIGMAS[2:]
"""Light is smoother than what tells places apart: clouds are copied."""

LIT_FROM, LIT_WHOLLY = 0.5, 0.9
"""Where light explains no more of a class's variance than the first, it is copied with the rest; the second, not."""

OUTLINE = 2
"""Pixels beside a class's outline that say nothing about its light: they may show what stands before it."""


def class_colors(image: Tensor, shares: Tensor, sigmas: tuple[float, ...] = SIGMAS) -> Tensor:
    """Each class's low-frequency color at every place of the canvas.

    Args:
        image: float32 ``[3, H, W]`` in [0, 1].
        shares: of the classes, float32 ``[K, H, W]`` in [0, 1].
        sigmas: as `SIGMAS`.

    Returns:
        float32 ``[K, 3, H, W]`` in [0, 1].
    """
    return torch.stack([_extended(image, mask, sigmas) for mask in shares])


def explained_variance(image: Tensor, shares: Tensor, colors: Tensor) -> Tensor:
    """The share of each class's color variance that `class_colors` explain, float32 ``[K]`` in [0, 1].

    A class that the photograph lacks gets 0.
    """
    explained = [
        _variance(low, mask) / (_variance(image, mask) + 1e-5) if mask.any() else 0.0
        for low, mask in zip(colors, shares, strict=True)
    ]
    return torch.tensor(explained).clamp(0, 1)


def class_light(image: Tensor, shares: Tensor, halvings: int) -> Tensor:
    """What of each class's color belongs to a place rather than to what is copied: a sky's gradient, a wall's shade.

    Args:
        image: float32 ``[3, H, W]`` in [0, 1].
        shares: of the classes, 0 or 1, float32 ``[K, H, W]``.
        halvings: how often the canvas is halved for the answer.

    Returns:
        Levels above middle gray or another level, whole numbers within 127, float32 ``[K, 3, h, w]``; all 0 for most
        classes. No pixel of the photograph leaves [0, 255] where they are taken off, so that adding them gives it back.
    """
    inner = 1 - F.max_pool2d(1 - shares, 2 * OUTLINE + 1, 1, OUTLINE)
    inner = torch.where(inner.flatten(1).any(1)[:, None, None], inner, shares)
    colors = class_colors(image, inner, LIGHT_SIGMAS)
    weights = ((explained_variance(image, shares, colors) - LIT_FROM) / (LIT_WHOLLY - LIT_FROM)).clamp(0, 1)
    light = F.avg_pool2d(colors - 0.5, 2**halvings) * 255 * weights[:, None, None, None]
    return torch.stack(
        [_fitting(image * 255, mask > 0, lit, halvings) for mask, lit in zip(shares, light, strict=True)]
    )


def _fitting(levels: Tensor, mask: Tensor, light: Tensor, halvings: int) -> Tensor:
    """The largest eighths of a light ``[3, h, w]``, rounded, that may be taken off levels ``[3, H, W]`` in a mask.

    Each channel may be lighter or darker by a number: else a single dark pixel beside an outline could forbid it all.
    """
    if not light.any():  # most classes', those that the photograph lacks among them
        return light
    for eighths in range(8, 0, -1):
        lit = torch.floor(light * eighths / 8 + 0.5)
        rest = (levels - lit.repeat_interleave(2**halvings, 1).repeat_interleave(2**halvings, 2))[:, mask]
        darkest, brightest = rest.amin(1), rest.amax(1)
        lit = lit + torch.minimum(darkest, (brightest - 255).clamp(min=0))[:, None, None]
        if (brightest - darkest <= 255).all() and lit.abs().amax() <= 127:
            return lit
    return torch.zeros_like(light)


def _variance(colors: Tensor, mask: Tensor) -> float:
    total = mask.sum()
    mean = (colors * mask).sum((1, 2), keepdim=True) / total
    return float(((colors - mean).square() * mask).sum() / total)


def _extended(image: Tensor, mask: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    width = max(image.shape[1:])
    value, trust = torch.zeros_like(image), torch.zeros_like(mask)
    for sigma in sigmas:
        weighed = _blur(torch.cat([image * mask, mask[None]]), sigma * width)
        coarser = weighed[:3] / (weighed[3] + 1e-6)
        found = (weighed[3] / ENOUGH).clamp(0, 1)
        value = trust * value + (1 - trust) * coarser
        trust = trust + (1 - trust) * found
    return value


def _blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``[C, H, W]``, computed on a reduced picture: sigma is many pixels."""
    height, width = pictures.shape[1:]
    factor = max(1, int(sigma / 2))
    small = F.interpolate(pictures[None], (max(1, height // factor), max(1, width // factor)), mode="area")
    radius = max(1, math.ceil(3 * sigma / factor))
    places = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-(places**2) / (2 * (sigma / factor) ** 2))
    kernel = kernel / kernel.sum()
    channels = len(pictures)
    for shape, padding in (((1, 1, 1, -1), (radius, radius, 0, 0)), ((1, 1, -1, 1), (0, 0, radius, radius))):
        padded = F.pad(small, padding, mode="replicate")
        small = F.conv2d(padded, kernel.view(shape).repeat(channels, 1, 1, 1), groups=channels)
    return F.interpolate(small, (height, width), mode="bilinear", align_corners=False)[0]

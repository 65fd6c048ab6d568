"""Pixels whose color speaks for another class than their label: sky between leaves, an outline that was drawn too wide.

Where they were, one knows what they are; copied elsewhere, they would be holes in a tree or a rim of another color.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS_PER_BIN = 16
"""Of 256 in a channel: colors of a bin, and less so of the bins beside it, are one color."""

WINDOW = 1 / 8
"""Longer sides of the canvas, along the square around a pixel in which classes compete for it."""

DOUBTFUL_BELOW = 0.2
"""A label is doubted if its class explains no more of a pixel than this, by Bayes' rule."""


def is_doubtful(picture: Tensor, class_ids: Tensor, classes: int) -> Tensor:
    """Whether what is seen at a pixel is probably of another class than its label.

    How probable a color is in a class is how often it is found there, anywhere in the photograph; how probable a class
    is beforehand is its share of the square around the pixel. So what is like nothing nearby is not doubted, such as
    an eye, nor a class whose colors are all another's, such as a nose: it has fewer of them, but more of each.

    Args:
        picture: levels from 0 to 255, ``[3, H, W]``.
        class_ids: ``[H, W]``.
        classes: K.

    Returns:
        bool ``[H, W]``.
    """
    bins_per_channel = 256 // LEVELS_PER_BIN
    red, green, blue = picture.long() // LEVELS_PER_BIN
    bins, ids = (red * bins_per_channel + green) * bins_per_channel + blue, class_ids.long()
    counts = torch.stack([torch.bincount(bins[ids == each], minlength=bins_per_channel**3) for each in range(classes)])
    smooth = F.avg_pool3d(counts.view(classes, *(bins_per_channel,) * 3).double(), 3, stride=1, padding=1).flatten(1)
    colors = smooth / smooth.sum(1, keepdim=True).clamp(min=1)
    size = int(max(ids.shape) * WINDOW) // 2 * 2 + 1
    own, every = torch.zeros(ids.shape, dtype=torch.double), torch.zeros(ids.shape, dtype=torch.double)
    for each in range(classes):  # one at a time: photographs are large
        mask = (ids == each).double()
        explained = _sum_around(mask, size) * colors[each][bins]
        every += explained
        own += mask * explained
    return own < DOUBTFUL_BELOW * every


def _sum_around(plane: Tensor, size: int) -> Tensor:
    """Of a square around each pixel of a plane ``[H, W]``, in one step however large it is."""
    sums = F.pad(plane, (size // 2 + 1, size // 2) * 2).cumsum(0).cumsum(1)
    rows = sums[size:] - sums[:-size]
    return rows[:, size:] - rows[:, :-size]

"""The outlines of a layout's pieces: where between them a pixel lies, and how soft they are drawn.

Class shares in windows of fixed widths say how far the outline is, in pixels; in a face of half the width, the eyes
are nearer to it than anywhere in the photograph. Halfway from the cheek to the nose they are in both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying.descriptors import box_sums, rounded

AGREED = 16
"""How far patches agree on a pixel's class, if all do; if half of them do or fewer, it is 0."""

BLURRED_STEP = 0.5
"""What is left of a step between the two pixels beside an outline when `soften_outlines` has blurred it."""


def relative_positions(class_ids: Tensor) -> Tensor:
    """Each pixel's position along the row and the column of its class that it lies in.

    Args:
        class_ids: ``[N, h, w]``.

    Returns:
        float32 ``[N, 2, h, w]``, above -1 at the upper and left ends, 0 in the middle, below 1 at the others.
    """
    along_rows = _along_rows(class_ids)
    return torch.stack([_along_rows(class_ids.transpose(1, 2)).transpose(1, 2), along_rows], dim=1)


def _along_rows(class_ids: Tensor) -> Tensor:
    """The part of `relative_positions` along rows, float32 ``[N, h, w]``."""
    width = class_ids.shape[2]
    columns = torch.arange(width, device=class_ids.device)
    changes = (class_ids[:, :, 1:] != class_ids[:, :, :-1]).float()
    edge = torch.ones_like(class_ids[:, :, :1]).float()
    # A run's first pixel, and its last, counted from the other side: the nearest ones that are no farther on.
    first = torch.cat([edge, changes], dim=2) * columns
    last = torch.cat([changes, edge], dim=2) * columns.flip(0)
    before = (columns <= columns[:, None]).float()
    left = columns - (first[:, :, None] * before).amax(3)
    right = columns.flip(0) - (last[:, :, None] * before.T).amax(3)
    return (left - right) / (left + right + 1)


def outline_softness(image: Tensor, class_ids: Tensor) -> int:
    """How soft the photograph's outlines are: from 0, steps from one pixel to the next, to `AGREED`, a camera's.

    Measured where a straight outline has three pixels of one class on either side: what part of the step between the
    outermost two lies between the two beside the outline.

    Args:
        image: levels, float32 ``[3, H, W]``.
        class_ids: ``[H, W]``.
    """
    beside, across = zip(_steps(image, class_ids), _steps(image.transpose(1, 2), class_ids.T), strict=True)
    whole = torch.cat(across).square().sum()
    if not whole:
        return AGREED
    part = float((torch.cat(beside) * torch.cat(across)).sum() / whole)
    return round(AGREED * min(max((1 - part) / (1 - BLURRED_STEP), 0.0), 1.0))


def _steps(image: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The differences of `outline_softness` along rows: of pixels beside outlines, and of those two farther out."""
    width = class_ids.shape[1] - 5
    if width <= 0:
        return image.new_zeros(0), image.new_zeros(0)
    ids = [class_ids[:, first : first + width] for first in range(6)]
    pixels = [image[:, :, first : first + width] for first in range(6)]
    left, right = (ids[0] == ids[1]) & (ids[1] == ids[2]), (ids[3] == ids[4]) & (ids[4] == ids[5])
    found = (left & right & (ids[2] != ids[3])).expand_as(pixels[0])
    return (pixels[3] - pixels[2])[found], (pixels[5] - pixels[0])[found]


def soften_outlines(picture: Tensor, class_ids: Tensor, agreement: Tensor, softness: Tensor) -> Tensor:
    """Blur the pixels at the layout's outlines, where those are not the photograph's.

    A camera mixes the colors of two classes that meet, a layout's outlines are steps. Where what is copied has the same
    outline, the photograph's own mixture is kept.

    Args:
        picture: whole levels, float32 ``[N, 3, H, W]``.
        class_ids: int64 ``[N, H, W]``.
        agreement: whole numbers up to `AGREED`, ``[N, 1, H, W]``: how much of each pixel is kept.
        softness: as `outline_softness` gives it, ``[1]``.

    Returns:
        Whole levels, of the picture's shape.
    """
    ids = class_ids[:, None].float()
    outline = F.max_pool2d(ids, 3, 1, 1) != -F.max_pool2d(-ids, 3, 1, 1)
    replaced = torch.where(outline, torch.floor((AGREED - agreement) * softness.float() / AGREED), 0.0)
    # Twice the mean of 2x2 pixels: weights of 1, 2, 1 along both sides.
    blurred = box_sums(box_sums(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 2), 2) / 16
    return rounded((picture * (AGREED - replaced) + blurred * replaced) / AGREED)

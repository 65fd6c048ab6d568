"""From copied tokens to a picture: sharp where copies meet, exact at the layout's borders.

A pixel's source is the smooth mean of what the tokens around it propose, as far as they agree with the
nearest (so a copy may bend), and the nearest alone where they do not (so a seam is sharp).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.context_encoder import pad_edges
from training.exact_arithmetic import on_grid
from training.neighbourhood import beside
from training.patch_voting import hann_weights
from training.source_tokens import SourceTokens

BEND = 0.3  # tokens: proposals that differ by less than this are bent into one another
OTHER_CLASS_SHARE = 0.05  # how much a proposal counts that would copy another class
WINDOW = 5  # pixels along the window in which source and target layouts are compared
STRICTNESS = 0.3  # of that comparison for moved objects, per unit of mean colour difference of the windows
STRICTNESS_IN_PLACE = 2.0  # for what stays: the outline of an object that has gone must not stay behind
WEIGHT_STEPS = 2.0**14  # proposals' weights and
PLACE_STEPS = 32.0  # their ways from the best one are multiples of one part in so many: their sums are exact
BAND = 4  # pixels around a moved object that take its rim and its contact shadow along


AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
"""The 3x3 tokens around a pixel's, in the order of `hann_weights`."""


@dataclass(frozen=True)
class Photograph:
    """All that is copied from; pictures in [-1, 1], flattened over pixels."""

    layers: Tensor  # every class's layer [K * H * W, 3]
    remainder: Tensor  # photograph minus its own class's layer: what belongs to borders alone [H * W, 3]
    class_ids: Tensor  # int64 [H * W]
    windows: Tensor  # colour labels averaged over small windows [H * W, 3]
    palette: Tensor  # [K, 3]
    unmoved: Tensor  # bool [K]: classes that stay in place
    size: tuple[int, int]  # H, W


def label_windows(class_ids: Tensor, palette: Tensor) -> Tensor:
    """Colour labels averaged over small windows: int64 ``[N, H, W]`` to ``[N, 3, H, W]``."""
    colours = F.embedding(class_ids, palette).permute(0, 3, 1, 2)
    # A convolution, since ONNX Runtime's average pooling takes several times as long.
    kernel = torch.full((3, 1, WINDOW, WINDOW), 1 / WINDOW**2, device=colours.device)
    return F.conv2d(pad_edges(colours, WINDOW // 2), kernel, groups=3)


def compose(target: Tensor, chosen: Tensor, source: SourceTokens, photograph: Photograph, token: int) -> Tensor:
    """Paint target layouts by copying.

    Args:
        target: class ids int64 ``[N, H, W]``.
        chosen: for every token, the number of the source token it copies, int64 ``[N, h, w]``.
        source: the fine source tokens.
        photograph: what is copied from.
        token: a token's side in pixels.

    Returns:
        Images ``[N, 3, H, W]`` in [-1, 1].
    """
    y, x = source_places(target, chosen, source, photograph, token)
    windows = label_windows(target, photograph.palette)
    agreement = _agreement(windows, target, photograph, y.round(), x.round(), STRICTNESS)
    height, width = photograph.size
    rows = torch.arange(height, device=y.device, dtype=y.dtype)[:, None].expand(height, width)
    columns = torch.arange(width, device=y.device, dtype=y.dtype).expand(height, width)
    agreement_in_place = _agreement(windows, target, photograph, rows, columns, STRICTNESS_IN_PLACE)

    unmoved = _look_up(photograph.unmoved, target)
    near = _nearness(~unmoved)
    # What an unmoved class shows comes from its own place; only rims and shadows come along with objects.
    layer = _sample_layer(photograph, target, torch.where(unmoved, rows, y), torch.where(unmoved, columns, x))
    brought = torch.where(unmoved, near, torch.ones_like(near)) * agreement
    kept = torch.where(unmoved, (1 - near) * agreement_in_place, torch.zeros_like(near))
    remainder = photograph.remainder
    image = (
        layer
        + brought[:, None] * sample(remainder, y, x, photograph.size)
        + kept[:, None] * remainder.T.view(3, height, width)
    )
    return _soften_cuts(image, target, brought + kept)


def source_places(
    target: Tensor, chosen: Tensor, source: SourceTokens, photograph: Photograph, token: int
) -> tuple[Tensor, Tensor]:
    """Where every pixel is copied from: ``[N, H, W]`` each, vertical and horizontal, in pixels, not whole."""
    height, width = photograph.size
    y, x = _proposals(chosen, source, token)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    seen = _look_up(photograph.class_ids, (y.round() * width + x.round()).long())
    same = (seen == target[:, None]).to(y.dtype)
    pattern = hann_weights(token).to(y.device).repeat(1, height // token, width // token)
    weights = on_grid(pattern * (OTHER_CLASS_SHARE + (1 - OTHER_CLASS_SHARE) * same), WEIGHT_STEPS)
    best = weights.argmax(1, keepdim=True)
    best_y, best_x = y.gather(1, best), x.gather(1, best)
    away_y, away_x = on_grid(y - best_y, PLACE_STEPS), on_grid(x - best_x, PLACE_STEPS)
    weights = weights * (away_y.square() + away_x.square() < (BEND * token) ** 2)
    total = weights.sum(1)
    return best_y[:, 0] + (away_y * weights).sum(1) / total, best_x[:, 0] + (away_x * weights).sum(1) / total


def _proposals(chosen: Tensor, source: SourceTokens, token: int) -> tuple[Tensor, Tensor]:
    """What each of the 3x3 tokens around a pixel would copy there: vertical, horizontal ``[N, 9, H, W]``."""
    n, h, w = chosen.shape
    around = beside((h, w), AROUND, chosen.device)
    near = chosen.flatten(1).index_select(1, around.flatten()).view(n, len(AROUND), h, 1, w, 1)
    y, x = F.embedding(near, source.centres).unbind(-1)
    step_y, step_x = F.embedding(near, source.steps).unbind(-1)
    within = torch.arange(token, device=chosen.device) - (token - 1) / 2
    # At the canvas's edge the edge token itself stands in, so its distance is that to itself.
    rows, columns = around[:, :, 0] // w, around[:, 0] % w
    away_y = (torch.arange(h, device=chosen.device) - rows)[:, :, None] * token + within
    away_x = (torch.arange(w, device=chosen.device) - columns)[:, :, None] * token + within
    y = y + step_y * away_y[:, :, :, None, None]
    x = x + step_x * away_x[:, None, None]
    shape, whole = (n, len(AROUND), h, token, w, token), (n, len(AROUND), h * token, w * token)
    return y.expand(shape).reshape(whole), x.expand(shape).reshape(whole)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    """Single values ``[P]`` at an index of any shape; plain indexing becomes a far slower operator of ONNX."""
    return F.embedding(index, table[:, None]).squeeze(-1)


def _agreement(
    windows: Tensor, target: Tensor, photograph: Photograph, rows: Tensor, columns: Tensor, strictness: float
) -> Tensor:
    """How alike the layouts are around target pixels and source pixels, in [0, 1]: ``[N, H, W]``."""
    index = rows * photograph.size[1] + columns
    difference = (windows - _colours(photograph.windows, index)).abs().sum(1)
    same = (_look_up(photograph.class_ids, index.long()) == target).to(windows.dtype)
    return same * (1 - strictness * difference).clamp(0, 1)


def _nearness(objects: Tensor) -> Tensor:
    """1 beside an object, falling to 0 at `BAND` pixels from it: bool ``[N, H, W]`` to float."""
    mask = objects[:, None].float()
    near = torch.zeros_like(mask)
    for _ in range(BAND):
        mask = F.max_pool2d(mask, 3, 1, 1)
        near = near + mask / BAND
    return near[:, 0]


def _sample_layer(photograph: Photograph, target: Tensor, y: Tensor, x: Tensor) -> Tensor:
    height, width = photograph.size
    return sample(photograph.layers, y, x, photograph.size, target * (height * width))


def sample(table: Tensor, y: Tensor, x: Tensor, size: tuple[int, int], first: Tensor | int = 0) -> Tensor:
    """Sample flattened pictures ``[P, C]`` at places ``[N, H, W]``, to ``[N, C, H, W]``; exact at whole pixels.

    Args:
        table: one picture of ``size``, or several in a row.
        y: vertical places in [0, H - 1].
        x: horizontal places.
        size: one picture's H and W.
        first: index of the first pixel of the picture to sample from.
    """
    height, width = size
    top, left = y.floor(), x.floor()
    down, right = (y - top)[:, None], (x - left)[:, None]
    # Whole numbers below 2 ** 24 are exact in float32 too, where they are computed faster.
    below, beside = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    upper, lower = top * width, below * width
    above = _colours(table, upper + left, first) * (1 - right) + _colours(table, upper + beside, first) * right
    under = _colours(table, lower + left, first) * (1 - right) + _colours(table, lower + beside, first) * right
    return above * (1 - down) + under * down


def _colours(table: Tensor, index: Tensor, first: Tensor | int = 0) -> Tensor:
    """Rows ``[P, C]`` at places ``[..., H, W]`` after the first, to ``[..., C, H, W]``."""
    places = (index.long() + first).flatten(-2)
    # Flattened, since ONNX Runtime would delay a transposition of whole pictures, and computes slowly on triples.
    return F.embedding(places, table).transpose(-1, -2).reshape(*index.shape[:-2], table.shape[1], *index.shape[-2:])


def _soften_cuts(image: Tensor, target: Tensor, share_of_photograph: Tensor) -> Tensor:
    """Anti-alias borders that were cut through layers; what comes from the photograph is smooth already."""
    ids = target[:, None].float()
    at_border = F.max_pool2d(ids, 3, 1, 1) + F.max_pool2d(-ids, 3, 1, 1) > 0
    axis = torch.tensor([1.0, 2.0, 1.0], device=image.device) / 4
    kernel = (axis[:, None] * axis).expand(3, 1, 3, 3)
    softened = F.conv2d(pad_edges(image, 1), kernel, groups=3)
    share = at_border * (1 - share_of_photograph)[:, None]
    return image * (1 - share) + softened * share

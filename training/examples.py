"""Examples: random layouts of a photograph and their pictures, that the published generator learns from.

A picture is put together of the photograph and of its classes' plates. A class's plate is the whole canvas painted in
that class by the copying generator: what is new in a layout looks as its class's plate does at that place. So a picture
is a function of what a network sees. Of pictures that are not, L1 asks for their mean, which is gray.

Most of such a layout is the photograph's own, as in layouts that people draw: a generator that sees only pictures bent
everywhere learns to throw its photograph away.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.published.augmentation import identity_grid, warp_ids
from semia.training.published.generator import OUTLINE, near_changes
from semia.training.published.trainer import LabeledImage
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors, pad

MOST_MOVES = 4
"""Places of a layout, at most, that are moved."""

RADII = (0.06, 0.21)
"""Of these places, as a share of the width."""

MAX_MOVE = 0.6
"""Of a place's middle, along each axis, as a share of its radius' whole width."""

PASTED_EVERY = 3
"""Every so many layouts, a strip of the photograph's is also put somewhere else."""

STRIPS = (0.1, 0.4)
"""Their widths, as a share of the layout's."""

MOST_SHAPES = 8
"""Rectangles and ellipses of one class, at most, that are drawn into a layout."""

SHAPE_WIDTHS, SHAPE_HEIGHTS = (0.02, 0.25), (0.05, 0.6)
"""Their sizes, as shares of the layout's."""

TOUCHING = 4
"""Pixels: a shape's class is one that is so near."""

BLUR = 0.0175
"""Deviation of the Gaussian that parts a plate's colors from its texture, as a share of the width."""


def paint_plates(scene: Scene, like: SceneTensors) -> Tensor:
    """Paint the whole canvas in each class: some 0.5 s each on one core, at 350x197.

    Args:
        scene: the photograph and its labels.
        like: the scene's tensors as the published generator wants them, padded and on its device.

    Returns:
        uint8 ``[K, 3, H, W]``, padded: the photograph's own pixels where it has the class and no outline is near.
        Elsewhere the copying generator's texture, in the photograph's colors, smoothly continued.
    """
    device = like.image.device
    unpadded = SceneTensors.from_scene(scene, CopyingSettings.multiple, device)
    copying = CopyingGenerator(CopyingSettings(), unpadded).to(device)
    copying.prepare()
    plates = []
    with torch.no_grad():
        paint = copying.eval().synthesizer(unpadded)
        for class_id in range(len(scene.palette)):
            painted = paint(torch.full_like(unpadded.class_ids, class_id)).float().clamp(-1, 1)
            known = ~_near((unpadded.class_ids != class_id).unsqueeze(1), OUTLINE)
            plates.append(_in_colors_of(unpadded.image, known, painted))
    return pad(((torch.cat(plates) + 1) * 127.5).round().to(torch.uint8), like.multiple)


def paint_examples(
    plates: Tensor, count: int, seed: int, like: SceneTensors, *, enough: Callable[[int], bool] = lambda _: False
) -> list[LabeledImage]:
    """Draw layouts and put their pictures together.

    Args:
        plates: as `paint_plates` gives them.
        count: how many.
        seed: of the layouts.
        like: the scene's tensors as the published generator wants them, padded and on its device.
        enough: asked after every picture, with how many there are; a true answer leaves it at those.

    Returns:
        Pictures and layouts, padded, on the device.
    """
    random = torch.Generator().manual_seed(seed)
    height, width = like.canvas
    own_ids = like.class_ids[:, :height, :width]
    examples: list[LabeledImage] = []
    while len(examples) < count:
        class_ids = own_ids
        if len(examples) % 2:
            class_ids = draw_layout(own_ids, random, pastes=len(examples) % PASTED_EVERY == 0)
        class_ids = pad(draw_shapes(class_ids, random), like.multiple)
        changed = near_changes(class_ids, like.class_ids)
        image = torch.where(changed, _with_soft_outlines(plates, class_ids), like.image)
        examples.append(LabeledImage.of(image, class_ids, like.colors(class_ids)))
        if enough(len(examples)):
            break
    return examples


def draw_layout(class_ids: Tensor, random: torch.Generator, *, pastes: bool) -> Tensor:
    """Move some places of a layout ``[1, H, W]`` and, if asked to, put a strip of it somewhere else; the same shape."""
    height, width = class_ids.shape[1:]
    aspect = width / height
    grid = identity_grid(height, width, class_ids.device)
    for _ in range(1 + int(torch.randint(MOST_MOVES, (), generator=random))):
        horizontal, vertical, size, right, down = torch.rand(5, generator=random).tolist()
        radius = 2 * (RADII[0] + (RADII[1] - RADII[0]) * size)  # in units of half the width
        x, y = grid[..., 0] - (2 * horizontal - 1), (grid[..., 1] - (2 * vertical - 1)) / aspect
        inside = torch.exp(-(((x**2 + y**2) / radius**2) ** 2)).unsqueeze(-1)  # flat in the middle, without an edge
        move = torch.tensor([2 * right - 1, (2 * down - 1) * aspect], device=grid.device)
        grid = grid + MAX_MOVE * radius * inside * move
    layout = warp_ids(class_ids, grid)
    if pastes:
        share, of, to = torch.rand(3, generator=random).tolist()
        strip = max(1, round(width * (STRIPS[0] + (STRIPS[1] - STRIPS[0]) * share)))
        first, there = round((width - strip) * of), round((width - strip) * to)
        layout[..., there : there + strip] = class_ids[..., first : first + strip]
    return layout


def draw_shapes(class_ids: Tensor, random: torch.Generator) -> Tensor:
    """Draw rectangles and ellipses of some class into a layout ``[1, H, W]``: pieces grow or go; the same shape."""
    height, width = class_ids.shape[1:]
    grid = identity_grid(height, width, class_ids.device)[0]
    layout = class_ids.clone()
    for _ in range(1 + int(torch.randint(MOST_SHAPES, (), generator=random))):
        horizontal, vertical, wide, high, kind, which = torch.rand(6, generator=random).tolist()
        x = (grid[..., 0] - (2 * horizontal - 1)) / (SHAPE_WIDTHS[0] + (SHAPE_WIDTHS[1] - SHAPE_WIDTHS[0]) * wide)
        y = (grid[..., 1] - (2 * vertical - 1)) / (SHAPE_HEIGHTS[0] + (SHAPE_HEIGHTS[1] - SHAPE_HEIGHTS[0]) * high)
        inside = (torch.maximum(x.abs(), y.abs()) if kind < 0.5 else torch.hypot(x, y)) < 1
        near = torch.unique(layout[0][_near(inside[None, None], TOUCHING)[0, 0]])
        if len(near):
            layout[0][inside] = near[int(which * len(near))]
    return layout


def _with_soft_outlines(plates: Tensor, class_ids: Tensor) -> Tensor:
    """Plates put together as a layout ``[1, H, W]`` says, outlines as soft as a photograph's: ``[1, 3, H, W]``."""
    shares = F.one_hot(class_ids, len(plates)).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(shares, 3, 1, 1, count_include_pad=False)[0]
    return ((plates.float() / 127.5 - 1) * shares.unsqueeze(1)).sum(0, keepdim=True)


def _near(mask: Tensor, distance: int) -> Tensor:
    """Where a mask ``[N, 1, H, W]`` is set within so many pixels, along either axis."""
    return F.max_pool2d(mask.float(), 2 * distance + 1, 1, distance) > 0


def _in_colors_of(image: Tensor, known: Tensor, painted: Tensor) -> Tensor:
    """An image where it is known, and elsewhere a painted one, its low frequencies those of the known, continued.

    Without that, a piece that a layout takes away is seen by the color of what is painted in its place.
    All ``[1, 3, H, W]``; ``known`` is bool ``[1, 1, H, W]``.
    """
    if not known.any():
        return painted
    deviation = BLUR * image.shape[-1]
    weight = _blurred(known.float(), deviation)
    smooth = _blurred(image * known, deviation) / weight.clamp_min(1e-3)
    colors = _blurred(_continued(smooth, weight > 0.05), deviation)
    texture = painted - _blurred(torch.where(known, image, painted), deviation)
    return torch.where(known, image, (colors + texture).clamp(-1, 1))


def _continued(image: Tensor, known: Tensor) -> Tensor:
    """``[1, C, H, W]`` where it is known, ``[1, 1, H, W]``, elsewhere smoothly continued: pull, then push."""
    if known.all() or min(image.shape[2:]) <= 2:
        return torch.where(known, image, (image * known).sum((2, 3), keepdim=True) / known.sum().clamp_min(1))
    share = F.avg_pool2d(known.float(), 2, ceil_mode=True)
    halved = F.avg_pool2d(image * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = _continued(halved, share > 0)
    return torch.where(known, image, F.interpolate(coarse, size=image.shape[2:], mode="bilinear"))


def _blurred(values: Tensor, deviation: float) -> Tensor:
    """``[1, C, H, W]`` through a Gaussian, its border repeated."""
    reach = math.ceil(3 * deviation)
    kernel = torch.exp(-((torch.arange(-reach, reach + 1, device=values.device) / deviation) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(values.shape[1], 1, 1, -1)
    for _ in range(2):
        padded = F.pad(values, (reach, reach, 0, 0), mode="replicate")
        values = F.conv2d(padded, kernel, groups=values.shape[1]).transpose(2, 3)
    return values

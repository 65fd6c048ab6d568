"""Examples: random layouts of a photograph, painted by the copying generator, that the published one learns from.

Most of such a layout is the photograph's own, as in layouts that people draw: a generator that sees only pictures bent
everywhere learns to throw its photograph away.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.published.augmentation import identity_grid, warp_ids
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


def paint_examples(
    scene: Scene, count: int, seed: int, like: SceneTensors, *, enough: Callable[[int], bool] = lambda _: False
) -> list[LabeledImage]:
    """Draw layouts and have the copying generator paint them: some 0.2 s each on one core, at 350x197.

    Args:
        scene: the photograph and its labels.
        count: how many; the copying generator is prepared only if there are any.
        seed: of the layouts.
        like: the scene's tensors as the published generator wants them, padded and on its device.
        enough: asked after every picture, with how many there are; a true answer leaves it at those.

    Returns:
        Pictures and layouts, padded, on the device.
    """
    if not count:
        return []
    device = like.image.device
    unpadded = SceneTensors.from_scene(scene, CopyingSettings.multiple, device)
    copying = CopyingGenerator(CopyingSettings(), unpadded).to(device)
    copying.prepare()
    random = torch.Generator().manual_seed(seed)
    examples = []
    with torch.no_grad():
        paint = copying.eval().synthesizer(unpadded)
        for index in range(count):
            class_ids = draw_layout(unpadded.class_ids, random, pastes=index % PASTED_EVERY == 0)
            image = pad(paint(class_ids).float().clamp(-1, 1), like.multiple)
            class_ids = pad(class_ids, like.multiple)
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

"""Layouts whose true correspondence is known: the photograph's own objects, moved, bent, doubled, left out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_OBJECTS = 16
"""Connected components that move on their own, the largest first; smaller ones are not drawn."""

LEAST_CELLS = 3
"""A component of fewer cells is noise."""

CELLS = 2
"""Cells along a token's side: layouts are sampled on cells, matched on tokens."""

SCALE_SPREAD = 0.2  # of an object's size: standard deviation of the logarithm, on either axis
SHIFT_SPREAD = 0.3  # of its place, in half canvases
TURN_SPREAD = 0.1  # radians
BEND_SPREAD = 0.08  # of its smooth displacement, in half canvases
TOGETHER = 0.5  # of these for what all objects do together
FLIPPED = 0.1  # share of layouts that are mirrored
DOUBLED = 0.25  # share of objects drawn twice
LEFT_OUT = 0.1  # share of objects not drawn
IN_PLACE = 0.1  # share of layouts in which nothing moves but by bending


@dataclass(frozen=True)
class KnownLayouts:
    """A batch of layouts on cells, and where each token's content comes from."""

    class_ids: Tensor  # int64 [N, CELLS * h, CELLS * w]
    origins: Tensor  # float32 [N, h, w, 2]: centre of the true source token, (y, x) in tokens
    known: Tensor  # bool [N, h, w]: whether the token shows an object


class LayoutSampler:
    """Draws random layouts of one scene."""

    def __init__(self, class_ids: Tensor, unmoved: Tensor, token: int) -> None:
        """Find the scene's objects.

        Args:
            class_ids: the photograph's, int64 ``[H, W]``; H and W are multiples of ``token``.
            unmoved: bool ``[K]``, the classes that stay in place.
            token: a token's side in pixels.
        """
        cell = token // CELLS
        ids = class_ids[cell // 2 :: cell, cell // 2 :: cell]
        moved = ~unmoved[ids]
        objects = _components(ids, moved)
        self.objects = objects
        self.classes = torch.stack([ids[mask][0] for mask in objects]) if len(objects) else ids.new_zeros(0)
        self.backdrop = _filled(ids, ~moved)
        self.areas = objects.flatten(1).sum(1).float()

    def draw(self, count: int) -> KnownLayouts:
        """Draw layouts, from PyTorch's global random numbers.

        Raises:
            ValueError: if the scene has no objects: then nothing can move.
        """
        if not len(self.objects):
            raise ValueError("this scene has no objects")
        twice = torch.cat([self.objects, self.objects])
        n, c = count, len(twice)
        height, width = twice.shape[-2:]
        grid = _random_grids(n, c, height, width).to(twice.device)
        masks = twice.float()[None].expand(n, c, height, width).reshape(n * c, 1, height, width)
        drawn = F.grid_sample(masks, grid.flatten(0, 1), mode="nearest", align_corners=False).view(n, c, height, width)
        present = torch.cat([torch.rand(n, c // 2) >= LEFT_OUT, torch.rand(n, c // 2) < DOUBLED], dim=1)
        drawn = drawn * present.to(drawn.device)[..., None, None]
        # Small things lie on large ones, with some disorder.
        rank = -self.areas.repeat(2).log() + 0.5 * torch.randn(n, c, device=drawn.device)
        height_order = torch.where(drawn > 0, rank[..., None, None] + 100, torch.zeros_like(drawn))
        top = height_order.argmax(1, keepdim=True)
        shown = height_order.amax(1) > 0
        ids = torch.where(shown, self.classes.repeat(2)[top[:, 0]], self.backdrop)
        origin = grid.gather(1, top[..., None].expand(n, 1, height, width, 2))[:, 0]
        return _on_tokens(ids, torch.where(shown, top[:, 0], -1), origin)


def _on_tokens(ids: Tensor, top: Tensor, origin: Tensor) -> KnownLayouts:
    """Average the cells' origins over the object that counts in each token."""
    height, width = ids.shape[-2:]
    cells = torch.tensor([height, width], device=ids.device)
    # From grid_sample's (x, y) in [-1, 1] to (y, x) in cells.
    y, x = ((origin[..., 1] + 1) * height - 1) / 2, ((origin[..., 0] + 1) * width - 1) / 2
    rows = torch.arange(height, device=ids.device)[:, None].float()
    columns = torch.arange(width, device=ids.device).float()
    chief = F.max_pool2d(top[:, None].float(), CELLS)
    counted = (F.interpolate(chief, scale_factor=CELLS, mode="nearest")[:, 0] == top).float()
    share = F.avg_pool2d(counted[:, None], CELLS).clamp_min(1e-6)
    offsets = torch.stack([y - rows, x - columns], dim=1) * counted[:, None]
    mean = F.avg_pool2d(offsets, CELLS) / share / CELLS
    token_rows = torch.arange(height // CELLS, device=ids.device)[:, None].float()
    token_columns = torch.arange(width // CELLS, device=ids.device).float()
    origins = torch.stack([mean[:, 0] + token_rows, mean[:, 1] + token_columns], dim=-1)
    limit = cells / CELLS - 1
    inside = ((origins >= 0) & (origins <= limit)).all(-1)
    return KnownLayouts(ids, origins, (chief[:, 0] >= 0) & inside)


def _random_grids(count: int, objects: int, height: int, width: int) -> Tensor:
    """Sampling grids ``[count, objects, H, W, 2]``: what all do together, then each on its own."""
    base = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    together = _random_motion(count, 1, TOGETHER)
    alone = _random_motion(count, objects, 1.0)
    still = (torch.rand(count) < IN_PLACE)[:, None, None, None]
    identity = torch.eye(3).expand(count, objects, 3, 3)
    affine = torch.where(still, identity, together @ alone)
    flips = torch.ones(count, 1, 1, 3)
    flips[:, 0, 0, 0] = torch.where((torch.rand(count) < FLIPPED) & ~still[:, 0, 0, 0], -1.0, 1.0)
    points = F.pad(base.view(-1, 2), (0, 1), value=1.0) * flips  # [count, 1, H * W, 3]
    moved = (points @ affine.transpose(2, 3))[..., :2].view(count, objects, height, width, 2)
    return moved + _smooth_noise(count, 1, height, width, TOGETHER) + _smooth_noise(count, objects, height, width, 1.0)


def _random_motion(count: int, objects: int, strength: float) -> Tensor:
    """Affine matrices ``[count, objects, 3, 3]``."""
    scale = torch.exp(torch.randn(count, objects, 2) * SCALE_SPREAD * strength)
    angle = torch.randn(count, objects) * TURN_SPREAD * strength
    shift = torch.randn(count, objects, 2) * SHIFT_SPREAD * strength
    matrices = torch.zeros(count, objects, 3, 3)
    matrices[..., 0, 0], matrices[..., 0, 1] = scale[..., 0] * angle.cos(), -scale[..., 0] * angle.sin()
    matrices[..., 1, 0], matrices[..., 1, 1] = scale[..., 1] * angle.sin(), scale[..., 1] * angle.cos()
    matrices[..., :2, 2] = shift
    matrices[..., 2, 2] = 1
    return matrices


def _smooth_noise(count: int, objects: int, height: int, width: int, strength: float) -> Tensor:
    """Smooth displacements ``[count, objects, H, W, 2]``, coarse and finer."""
    total = torch.zeros(count * objects, 2, height, width)
    for size, share in ((3, 1.0), (6, 0.8), (12, 0.5)):
        noise = torch.randn(count * objects, 2, size, size) * BEND_SPREAD * strength * share
        total = total + F.interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    return total.view(count, objects, 2, height, width).permute(0, 1, 3, 4, 2)


def _components(ids: Tensor, wanted: Tensor) -> Tensor:
    """Connected components of one class each, largest first, as masks ``[objects, H, W]``."""
    height, width = ids.shape
    numbers = torch.arange(1, height * width + 1, device=ids.device).view(height, width).float() * wanted
    classes = torch.unique(ids).tolist()
    while True:
        # Each component takes its largest number, one cell further in every round.
        spread = numbers
        for class_id in classes:
            own = wanted & (ids == class_id)
            reached = F.max_pool2d((numbers * own)[None, None], 3, 1, 1)[0, 0]
            spread = torch.where(own, reached, spread)
        if torch.equal(spread, numbers):
            break
        numbers = spread
    found, sizes = torch.unique(numbers[numbers > 0], return_counts=True)
    kept = sizes.argsort(descending=True)[:MOST_OBJECTS]
    kept = kept[sizes[kept] >= LEAST_CELLS] if len(kept) else kept
    return torch.stack([numbers == found[index] for index in kept]) if len(kept) else ids.new_zeros(0, height, width)


def _filled(ids: Tensor, trusted: Tensor) -> Tensor:
    """Ids where they are trusted, and the nearest trusted one elsewhere."""
    if not trusted.any():
        return torch.full_like(ids, int(ids.flatten().mode().values))
    values = torch.where(trusted, ids + 1, 0)
    while bool((values == 0).any()):
        grown = F.max_pool2d(values[None, None].float(), 3, 1, 1)[0, 0].long()
        values = torch.where(values == 0, grown, values)
    return values - 1

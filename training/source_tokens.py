"""The photograph's tokens that a target's may copy: as they are, larger, smaller, stretched and mirrored."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.context_encoder import joined_descriptors
from training.exact_arithmetic import on_grid

CELLS = 4
"""Cells along a token's side: layouts are looked at once a cell, at its middle."""

GUARD = 3
"""Tokens around every variant that nothing may copy: a step beyond a variant's edge lands here."""

FORBIDDEN = 100.0
"""The cost of a token that lies outside the photograph."""

APPEARANCE_SIZE = 12
"""Numbers in a token's appearance: the mean colours of its quarters."""

APPEARANCE_STEPS = 256.0
"""Levels of a token's appearance: sums of their squares are exact."""


@dataclass(frozen=True)
class Variant:
    """The photograph as a source: scaled along each axis, mirrored or not."""

    scale_y: float
    scale_x: float
    mirrored: bool
    cost: float  # of using it instead of the photograph as it is
    saving: float = 0.0  # how much of the cost may fall away in layouts whose objects are enlarged


_ROOT = math.sqrt(2)
VARIANTS = (
    Variant(1, 1, False, 0.0),
    Variant(2, 2, False, 0.3, saving=0.28),
    Variant(_ROOT, _ROOT, False, 0.15, saving=0.13),
    Variant(1 / _ROOT, 1 / _ROOT, False, 0.15),
    Variant(1, 1, True, 0.3),
    Variant(1, _ROOT, False, 0.3),
    Variant(_ROOT, 1, False, 0.3),
)

PLAIN, ENLARGED = 0, 1
"""Places in `VARIANTS` of the photograph as it is, and of the one twice as large."""


@dataclass(frozen=True)
class SourceTokens:
    """All variants' tokens at one size, in one numbered row of M; each variant is a grid with a guard around it."""

    descriptors: Tensor  # float32 [M, D]
    appearance: Tensor  # float32 [M, 12], image units of [0, 1], multiples of 1 / APPEARANCE_STEPS
    centres: Tensor  # float32 [M, 2]: where a token's centre lies in the photograph, (y, x) in pixels
    steps: Tensor  # float32 [M, 2]: how far the photograph moves per pixel of a token, (y, x); negative if mirrored
    cost: Tensor  # float32 [M]
    saving: Tensor  # float32 [M]: the part of the cost that may fall away
    child: Tensor  # int64 [M]: number of the first of its four children among the tokens of half the size
    allowed: Tensor  # int64 [A]: numbers of those that lie on the photograph, variant by variant
    counts: tuple[int, ...]  # how many of these belong to each variant
    stride: int  # from a token to the one below it


@dataclass(frozen=True)
class VariantGrid:
    """One variant laid out in whole coarse tokens."""

    variant: Variant
    shares: Tensor  # class shares of its fine tokens [K, h, w]
    appearance: Tensor  # [12, h, w]
    rows: Tensor  # photograph coordinates of its fine tokens' centres [h]
    columns: Tensor  # [w]


def lay_out(variant: Variant, image: Tensor, one_hot: Tensor, token: int) -> VariantGrid:
    """Transform the photograph and its labels, and cut them into tokens.

    Args:
        variant: the transformation.
        image: ``[3, H, W]`` in [0, 1].
        one_hot: ``[K, H, W]``.
        token: a fine token's side in pixels.
    """
    height, width = image.shape[-2:]
    coarse = 2 * token
    rows = _coordinates(height, variant.scale_y, coarse, False, image.device)
    columns = _coordinates(width, variant.scale_x, coarse, variant.mirrored, image.device)
    grid = torch.stack(
        torch.meshgrid((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1, indexing="xy"), dim=-1
    )[None]
    seen = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    labels = F.grid_sample(one_hot[None], grid, mode="nearest", padding_mode="border", align_corners=False)
    quarters = F.avg_pool2d(seen, token // 2)[0]
    h, w = quarters.shape[1] // 2, quarters.shape[2] // 2
    appearance = quarters.view(3, h, 2, w, 2).permute(0, 2, 4, 1, 3).reshape(APPEARANCE_SIZE, h, w)
    return VariantGrid(
        variant,
        token_shares(cells_of(labels, token))[0],
        appearance,
        rows.view(-1, token).mean(1),
        columns.view(-1, token).mean(1),
    )


def cells_of(x: Tensor, token: int) -> Tensor:
    """One value a cell: ``[..., H, W]`` to ``[..., CELLS * h, CELLS * w]``."""
    cell = token // CELLS
    return x[..., cell // 2 :: cell, cell // 2 :: cell]


def token_shares(one_hot: Tensor) -> Tensor:
    """The classes' shares of every token: float ``[N, K, CELLS * h, CELLS * w]`` of cells to ``[N, K, h, w]``."""
    return F.avg_pool2d(one_hot, CELLS)


def _coordinates(length: int, scale: float, coarse: int, mirrored: bool, device: torch.device) -> Tensor:
    """Photograph coordinates of a variant's pixels along one axis, to whole coarse tokens."""
    pixels = -(-round(length * scale) // coarse) * coarse
    places = (torch.arange(pixels, device=device) + 0.5) / scale - 0.5
    return (length - 1) - places if mirrored else places


def number_tokens(grids: list[VariantGrid], descriptors: list[Tensor], size: tuple[int, int]) -> list[SourceTokens]:
    """Number the tokens of all variants, fine ones and coarse ones of twice the side.

    Args:
        grids: the variants.
        descriptors: of each, ``[D, h, w]``.
        size: the photograph's height and width in pixels.

    Returns:
        The fine tokens, then the coarse.
    """
    fine = [_fields(grid, z, size) for grid, z in zip(grids, descriptors, strict=True)]
    coarse = [_halved(fields) for fields in fine]
    return [_joined(fine, fine), _joined(coarse, fine)]


_Fields = dict[str, Tensor]  # descriptors, appearance, centres, steps [C, h, w]; cost, saving [1, h, w]


def _fields(grid: VariantGrid, descriptors: Tensor, size: tuple[int, int]) -> _Fields:
    rows, columns = torch.meshgrid(grid.rows, grid.columns, indexing="ij")
    height, width = size
    outside = (rows < -0.5) | (rows > height - 0.5) | (columns < -0.5) | (columns > width - 0.5)
    variant = grid.variant
    steps = torch.tensor([1 / variant.scale_y, (-1 if variant.mirrored else 1) / variant.scale_x])
    return {
        "descriptors": descriptors,
        "appearance": grid.appearance,
        "centres": torch.stack([rows, columns]),
        "steps": steps.to(rows.device)[:, None, None].expand(2, *rows.shape),
        "cost": (variant.cost + FORBIDDEN * outside.float())[None],
        "saving": torch.full_like(rows, variant.saving)[None],
    }


def _halved(fields: _Fields) -> _Fields:
    means = {name: F.avg_pool2d(values[None], 2)[0] for name, values in fields.items() if name != "descriptors"}
    return {**means, "descriptors": joined_descriptors(fields["descriptors"][None])[0]}


def _joined(grids: list[_Fields], fine: list[_Fields]) -> SourceTokens:
    guards = {"cost": FORBIDDEN}
    rows: dict[str, list[Tensor]] = {name: [] for name in grids[0]}
    stride, fine_stride = (_stride(fields) for fields in (grids, fine))
    children = []
    first_child = 0
    for fields, below in zip(grids, fine, strict=True):
        spare = stride - 2 * GUARD - fields["cost"].shape[-1]
        for name, values in fields.items():
            guarded = F.pad(values, (GUARD, GUARD + spare, GUARD, GUARD), value=guards.get(name, 0.0))
            rows[name].append(guarded.flatten(1).T)
        h = fields["cost"].shape[-2] + 2 * GUARD
        y, x = torch.meshgrid(torch.arange(h) - GUARD, torch.arange(stride) - GUARD, indexing="ij")
        child = first_child + (2 * y + GUARD) * fine_stride + 2 * x + GUARD
        children.append(child.flatten())
        first_child += (below["cost"].shape[-2] + 2 * GUARD) * fine_stride
    tables = {name: torch.cat(parts).contiguous() for name, parts in rows.items()}
    cost = tables["cost"][:, 0]
    counts = tuple(int((values[:, 0] < 1).sum()) for values in rows["cost"])
    return SourceTokens(
        descriptors=tables["descriptors"],
        appearance=on_grid(tables["appearance"], APPEARANCE_STEPS),
        centres=tables["centres"],
        steps=tables["steps"],
        cost=cost,
        saving=tables["saving"][:, 0],
        child=torch.cat(children).to(cost.device),
        allowed=torch.nonzero(cost < 1).flatten(),
        counts=counts,
        stride=stride,
    )


def _stride(grids: list[_Fields]) -> int:
    """All variants' rows have the widest one's length: then a step down is the same everywhere."""
    return int(max(fields["cost"].shape[-1] for fields in grids)) + 2 * GUARD

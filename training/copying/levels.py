"""The sizes that are searched, and at each of them all that may be copied, as tables of whole numbers."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semia.training.copying.descriptors import LARGEST, UNIT, Window, WindowDescriptor, rounded
from semia.training.copying.grid import Grid, int_column, quotient
from semia.training.copying.outline import relative_positions

COARSEST_SIDE = 36
"""Pixels, about, along the longer side of the smallest size."""

SEARCHED_PIXELS = 90_000
"""The finest size that is searched has at most so many pixels; finer ones go on with what was chosen there."""

FULL_SHARE = 256.0
"""What a class's share counts where the class has the whole pixel."""

FULL_COLOR = 255.0

CONTEXT_SIZES, APPEARANCE_SIZES = (14, 14, 6, 6), (20, 20, 12, 8)
"""How many principal components are kept at the coarsest size, at the next two, and at all finer ones."""

PRIOR_AND_PLACE_SIZES = (5, 5, 5, 0)
"""Numbers of a descriptor, likewise, for the prior color and the place: at last nothing is taken from far away."""

OUTLINE_SIZES = (2, 2, 0, 0)
"""Numbers, likewise, for where a pixel lies between the ends of its piece."""

OUTLINE_WEIGHT = 0.2
"""Of the squared distance along a piece, in half lengths of its row or column."""

APPEARANCE = (Window(7, weight=2.0),)
CONTEXTS = (
    (Window(1), Window(7), Window(9, 2, 0.8), Window(9, 4, 0.6), Window(5, 8, 0.5)),
    (Window(1), Window(7), Window(9, 2, 0.8), Window(5, 4, 0.6)),
    (Window(5), Window(5, 2, 0.8)),
    (Window(5),),
)
"""Windows of class shares that are compared, likewise."""

CODE_SIZE = 5
"""Numbers, at most, that say at the third size and finer ones which class a pixel has: looks never outweigh them."""

COST_DIGITS = (1, 256, 65536)
"""A whole number in three digits between -128 and 127, the lowest first: so it is stored in bytes."""

ANCHOR_CELL = 8
"""Pixels along the squares for each of which every class has an anchor: its nearest place in the photograph."""

ANCHOR_SOURCES = 4000
"""At most so many of a class's places are looked at for them."""

REACH = 2
"""Pixels from a patch's center to its side: a pixel's color is voted on by the patches over it."""

SPREAD = 2
"""Pixels from the center of a patch to those of its pixels that vote; with the center they are nine."""

SIMILAR_ORDER = 2
"""The size, counted from the coarsest, where similar places are candidates: the first without any exhaustive search."""

JUMP = 8
"""Pixels, at most, from what a pixel copies to another candidate nearby."""

VARIANT_COST = round(0.02 * UNIT**2)
"""Of leaving the plain photograph; other costs of places are multiples of it."""

OUTSIDE_COST = 450
"""Of copying what is not the photograph, such as a turned variant's corners, in `VARIANT_COST`; 9 in `UNIT` ** 2."""

DOUBT_COST = 12
"""Of copying elsewhere what `is_doubtful` wholly, in `VARIANT_COST`."""

MARGIN_COST = 20_000
"""Of copying a place in the margin: more than the largest squared distance of two descriptors, 41 * 254 ** 2."""

SHOWN_SHARE = 0.75
"""A pixel of a smaller size may be copied if so much of it shows the photograph."""


@dataclass(frozen=True)
class Sizes:
    """The canvas, padded so that it can be halved, and how often it is."""

    height: int  # of the padded canvas
    width: int
    coarsest: int  # halvings at the smallest size
    finest: int  # halvings at the finest size that is searched

    @classmethod
    def of_canvas(cls, height: int, width: int) -> "Sizes":
        """The sizes for a photograph of so many pixels."""
        coarsest = max(1, round(math.log2(max(height, width) / COARSEST_SIDE)))
        multiple = 2**coarsest
        height, width = -(-height // multiple) * multiple, -(-width // multiple) * multiple
        finest = 0
        while finest < coarsest and (height >> finest) * (width >> finest) > SEARCHED_PIXELS:
            finest += 1
        return cls(height, width, coarsest, finest)

    @property
    def searched(self) -> list[int]:
        """Halvings, from the coarsest size to the finest that is searched."""
        return list(range(self.coarsest, self.finest - 1, -1))


def reduced(pictures: Tensor, halvings: int) -> Tensor:
    """Whole numbers ``[N, C, H, W]`` at half the size so many times: rounded means."""
    return rounded(F.avg_pool2d(pictures.float(), 2**halvings)) if halvings else pictures.float()


class LevelDescriptors(nn.Module):
    """How pixels of layouts and of pictures are described at one size."""

    codes: Tensor

    def __init__(self, classes: int, order: int) -> None:
        """Make descriptors that describe nothing before they are fitted, or before a state is loaded.

        Args:
            classes: K.
            order: 0 for the coarsest size, 1 for the next, and so on.
        """
        super().__init__()
        detail = min(order, len(CONTEXTS) - 1)
        self.context = WindowDescriptor(classes, CONTEXTS[detail], CONTEXT_SIZES[detail])
        self.appearance = WindowDescriptor(3, APPEARANCE, APPEARANCE_SIZES[detail])
        self.outline_size = OUTLINE_SIZES[detail]
        self.prior_and_place_size = PRIOR_AND_PLACE_SIZES[detail]
        codes = class_codes(classes) if order >= 2 else torch.zeros(classes, 0)
        self.register_buffer("codes", codes, persistent=False)

    @property
    def fixed_size(self) -> int:
        """Numbers of a descriptor that a picture's appearance has no part in."""
        return self.context.size + self.prior_and_place_size + self.outline_size + self.codes.shape[1]

    def describe_layout(self, shares: Tensor, prior_and_place: Tensor | None) -> Tensor:
        """What does not change while a picture is made: context, prior color, place, position in the piece, and class.

        Args:
            shares: of the classes, whole numbers up to `FULL_SHARE`, ``[N, K, h, w]``.
            prior_and_place: prior color and place, ``[N, 5, h, w]``; None at sizes where they are not compared.

        Returns:
            Whole numbers ``[N, h, w, fixed_size]``.
        """
        context = self.context(shares, self.codes.T / FULL_SHARE)
        planes = [] if prior_and_place is None else [prior_and_place]
        if self.outline_size:
            planes.append(rounded(relative_positions(shares.argmax(1)) * (math.sqrt(OUTLINE_WEIGHT) * UNIT)))
        return torch.cat([context, *(plane.permute(0, 2, 3, 1) for plane in planes)], dim=3)


@dataclass(frozen=True)
class CopiedColors:
    """What every place of the photograph's variants shows at one size.

    Where places are not chosen one by one, squares of S pixels are one place: they copy what belongs together.
    """

    grid: Grid  # of places
    side: int  # of a place's square, in pixels; a divisor of `SPREAD`
    colors: Tensor  # uint8 [places, 4 * S]: reds, greens, blues, and the class ids
    anchor_colors: Tensor  # uint8 [K, squares, 3]: what a class looks like where nothing else of it is found
    light: Tensor  # int8 [L, 3, H, W]: what is added to a lit class's colors where they are copied to
    lit: tuple[int, ...]  # ids of the L lit classes: light is taken off their stored colors

    @property
    def spread(self) -> int:
        """`SPREAD` in places."""
        return SPREAD // self.side


@dataclass(frozen=True)
class SearchTables(CopiedColors):
    """All that may be copied at one size that is searched, and the constants of searching there."""

    anchors: Tensor  # int32 [K, squares]: the places of `CopiedColors.anchor_colors`
    rows: Tensor  # int8 [places, 3 + D]: `cost_digits`, then what `LevelDescriptors` describe, layout and appearance
    similar: Tensor | None  # int32 [places, SIMILAR]: of `similar_places`, at one size
    prior: Tensor | None  # int8 [K, 3, h, w]: each class's prior color everywhere, where it is compared
    place: Tensor | None  # int8 [2, h, w]: where a pixel is, likewise
    doubt: Tensor  # int32 [h * w]: what the plain photograph's places cost because of doubt, if copied elsewhere
    halves: Tensor  # int32 [2, h * w / 2, rounded up]: pixels of the chessboard's colors
    merged: Tensor  # int32 [h * w]: where each pixel stands in `halves`


def widened(colors: Tensor) -> Tensor:
    """Stored bytes as float32."""
    # By way of half precision: TensorRT looks nothing up in bytes. Whole numbers up to 2048 are exact in it.
    return colors.half().float()


def in_places(pictures: Tensor, side: int) -> Tensor:
    """Pictures ``[N, C, H, W]`` as P places with squares of S pixels, ``[N, C, S, P]``."""
    squares = F.pixel_unshuffle(pictures, side) if side > 1 else pictures
    return squares.reshape(-1, pictures.shape[1], side**2, squares.shape[2] * squares.shape[3])


def cost_digits(costs: Tensor) -> Tensor:
    """Whole numbers ``[places]``, at most 8 million, in the digits that `COST_DIGITS` are for, int8 ``[places, 3]``."""
    low = (costs.long() + 128) % 256 - 128
    rest = (costs.long() - low) // 256
    middle = (rest + 128) % 256 - 128
    return torch.stack([low, middle, (rest - middle) // 256], dim=1).to(torch.int8)


def cost_rows(rows: Tensor) -> Tensor:
    """Stored rows, the cost as one number and descriptors times -2, float32 ``[places, 1 + D]``.

    Multiplied by 1 and a wanted descriptor they give the cost of copying a place, less the wanted descriptor's square.
    """
    size = rows.shape[1] - len(COST_DIGITS)
    cost = int_column(COST_DIGITS, rows.device).float()
    # One product: ONNX Runtime does this when it loads a graph, and every step takes as much memory once more.
    descriptors = torch.eye(size, device=rows.device) * -2
    return rows.float() @ torch.cat([F.pad(cost, (0, size)), F.pad(descriptors, (1, 0))])


def wanted_rows(described: Tensor) -> Tensor:
    """Wanted descriptors ``[N, P, D]`` as what `cost_rows` are multiplied by, ``[N, P, 1 + D]``."""
    return F.pad(described, (1, 0), value=1.0)


def class_codes(classes: int) -> Tensor:
    """Points for K classes, float32 ``[K, digits]``, as far apart as descriptors allow: digits of their numbers."""
    base = 2
    while base**CODE_SIZE < classes:
        base += 1
    count = next(count for count in range(CODE_SIZE + 1) if base**count >= classes)
    digits = torch.arange(classes)[:, None] // base ** torch.arange(count) % base
    return rounded(digits * (2 * LARGEST / (base - 1)) - LARGEST)


def anchors_of(class_ids: Tensor, classes: int) -> Tensor:
    """For every class and square the class's nearest pixel in the plain photograph, counted row by row.

    Args:
        class_ids: of the photograph, ``[h, w]``.
        classes: K. A class that the photograph lacks has the square's own middle.

    Returns:
        int64 ``[K, squares]``.
    """
    height, width = class_ids.shape
    rows = torch.arange(0, height, ANCHOR_CELL).float() + (ANCHOR_CELL - 1) / 2
    columns = torch.arange(0, width, ANCHOR_CELL).float() + (ANCHOR_CELL - 1) / 2
    centers = torch.cartesian_prod(rows.clamp(max=height - 1), columns.clamp(max=width - 1))
    anchors = []
    for class_id in range(classes):
        pixels = (class_ids == class_id).nonzero()
        if len(pixels):
            pixels = pixels[:: -(-len(pixels) // ANCHOR_SOURCES)]
            nearest = pixels[torch.cdist(centers, pixels.float()).argmin(1)]
        else:
            nearest = centers.long()
        anchors.append(nearest[:, 0] * width + nearest[:, 1])
    return torch.stack(anchors)


def squares_of(height: int, width: int) -> Tensor:
    """Which of the anchors' squares each pixel lies in, int64 ``[height, width]``."""
    rows, columns = torch.arange(height) // ANCHOR_CELL, torch.arange(width) // ANCHOR_CELL
    return rows[:, None] * -(-width // ANCHOR_CELL) + columns


def colors_of(grid: Grid, side: int, pictures: Tensor, class_ids: Tensor) -> Tensor:
    """`CopiedColors.colors` of pictures ``[V, 3, h, w]`` in whole levels and class ids ``[V, h, w]``."""
    colors = torch.cat([pictures.float(), class_ids[:, None].float()], dim=1)
    padded = F.pad(colors, (grid.margin * side,) * 4, mode="replicate")
    return F.pixel_unshuffle(padded, side).permute(0, 2, 3, 1).reshape(-1, 4 * side**2).to(torch.uint8)


def chessboard(height: int, width: int) -> tuple[Tensor, Tensor]:
    """`SearchTables.halves` and `SearchTables.merged`; with an odd number of pixels the last black one stands twice."""
    odd = (torch.arange(height)[:, None] + torch.arange(width)).flatten() % 2
    white, black = ((odd == color).nonzero().flatten() for color in (0, 1))
    merged = torch.cat([white, black]).argsort()
    black = torch.cat([black, black[-1:]])[: len(white)]
    return torch.stack([white, black]).int(), merged.int()


def enlarged(chosen: Tensor, grid: Grid, finer: Grid) -> Tensor:
    """Places ``[N, h * w]`` at a finer size: every pixel becomes several that go on where it was, ``[N, H * W]``."""
    factor = finer.height // grid.height
    rows, variants = quotient(chosen, grid.stride), quotient(chosen, grid.area)
    down = (rows - variants * grid.rows - grid.margin) * factor + finer.margin
    right = (chosen - rows * grid.stride - grid.margin) * factor + finer.margin
    first = (variants * finer.area + down * finer.stride + right).view(-1, grid.height, 1, grid.width, 1)
    if factor == 1:
        return first.flatten(1)
    steps = torch.arange(factor, dtype=torch.int32, device=chosen.device)
    return (first + (steps[:, None, None] * finer.stride + steps)).flatten(1)

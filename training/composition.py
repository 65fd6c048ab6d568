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
from training.source_tokens import CELLS, SourceTokens, cells_of
from training.square_tables import look_up, sample, squares

BEND = 0.3  # tokens: proposals that differ by less than this are bent into one another
OTHER_CLASS_SHARE = 0.05  # how much a proposal counts that would copy another class
WINDOW = 5  # pixels along the window in which source and target layouts are compared
STRICTNESS = 0.3  # of that comparison for moved objects, per unit of mean colour difference of the windows
STRICTNESS_IN_PLACE = 2.0  # for what stays: the outline of an object that has gone must not stay behind
WEIGHT_STEPS = 2.0**14  # proposals' weights and
PLACE_STEPS = 32.0  # their ways from the best one are multiples of one part in so many: their sums are exact
CUT_SOFTENING = [5 / 16, 6 / 16, 5 / 16]  # across a cut border: about as soft as a lens leaves edges
BAND = 4  # pixels around a moved object that take its rim and its contact shadow along


def _nearest_tokens() -> tuple[Tensor, Tensor]:
    """Of each of a token's cells: the four tokens nearest to it, and how much they count by Hann's window.

    Returns:
        Which of the 3x3 around the cell's own, int64 ``[4, CELLS²]``; weights ``[4, CELLS²]``.
    """
    middles = (torch.arange(CELLS) + 0.5) / CELLS - 0.5  # in tokens, from the own token's middle
    upper = torch.where(middles < 0, -1, 0)
    pair = torch.stack([upper, upper + 1])  # along one axis
    weights = 0.5 + 0.5 * torch.cos(2 * torch.pi * (middles - pair) / 3)
    numbers = (pair + 1)[:, None, :, None] * 3 + (pair + 1)[None, :, None, :]
    products = weights[:, None, :, None] * weights[None, :, None, :]
    return numbers.reshape(4, CELLS**2), products.reshape(4, CELLS**2)


NEAREST, PROPOSAL_WEIGHTS = _nearest_tokens()


@dataclass(frozen=True)
class Photograph:
    """All that is copied from; pictures in 8-bit levels, as tables of `squares`."""

    layers: Tensor  # every class's layer, uint8 [K * H * W, 12]
    remainder: Tensor  # photograph minus its own class's layer: what belongs to borders alone, int16 [H * W, 12]
    layout: Tensor  # colours averaged over small windows, then the class id, float32 [H * W, 4]
    classes: Tensor  # of every class its colour, then whether it stays in place, float32 [K, 4]
    size: tuple[int, int]  # H, W


def photograph_tables(image: Tensor, layers: Tensor, class_ids: Tensor, classes: Tensor) -> Photograph:
    """Lay a photograph out for copying.

    Args:
        image: 8-bit levels, int64 ``[H, W, 3]``.
        layers: every class's completed layer, uint8 ``[K, H, W, 3]``.
        class_ids: int64 ``[H, W]``.
        classes: every class's colour in [-1, 1], then 1 if it stays in place, else 0: ``[K, 4]``.
    """
    own = layers.gather(0, class_ids[None, :, :, None].expand(1, *image.shape))[0]
    windows = label_windows(look_up(classes, class_ids[None])[:, :3])[0]
    return Photograph(
        layers=squares(layers),
        remainder=squares((image - own).to(torch.int16)),
        layout=torch.cat([windows, class_ids[None].float()]).flatten(1).T.contiguous(),
        classes=classes,
        size=(image.shape[0], image.shape[1]),
    )


def label_windows(colours: Tensor) -> Tensor:
    """Colour labels ``[N, 3, H, W]`` averaged over small windows."""
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
    height, width = photograph.size
    y, x = source_places(target, chosen, source, photograph, token)
    rows = torch.arange(height, device=y.device, dtype=y.dtype)[:, None].expand(height, width)
    columns = torch.arange(width, device=y.device, dtype=y.dtype).expand(height, width)

    of_target = look_up(photograph.classes, target)
    windows, unmoved = label_windows(of_target[:, :3]), of_target[:, 3]
    layout = torch.cat([windows, target[:, None].float()], dim=1)
    there = look_up(photograph.layout, (y.round() * width + x.round()).long())
    in_place = photograph.layout.T.view(1, 4, height, width)

    # What an unmoved class shows comes from its own place; only rims and shadows come along with objects.
    stays = unmoved > 0
    layer_y, layer_x = torch.where(stays, rows, y), torch.where(stays, columns, x)
    layer = sample(photograph.layers, layer_y, layer_x, width, target * (height * width))
    near = _nearness(1 - unmoved)  # 1 on objects themselves
    brought = near * _agreement(layout, there, STRICTNESS)
    kept = (1 - near) * _agreement(layout, in_place, STRICTNESS_IN_PLACE)
    image = (
        layer
        + brought[:, None] * sample(photograph.remainder, y, x, width)
        + kept[:, None] * photograph.remainder[:, :3].T.reshape(1, 3, height, width)
    )
    return _soften_cuts(image, target, brought + kept) / 127.5 - 1


def source_places(
    target: Tensor, chosen: Tensor, source: SourceTokens, photograph: Photograph, token: int
) -> tuple[Tensor, Tensor]:
    """Where every pixel is copied from: ``[N, H, W]`` each, vertical and horizontal, in pixels, not whole."""
    height, width = photograph.size
    start_y, start_x, step_y, step_x = (_planes(each, NEAREST) for each in _maps_around(chosen, source, token))
    rows, columns = _cell_places(chosen.shape[1], chosen.shape[2], token, chosen.device)
    y = (start_y + step_y * rows).clamp(0, height - 1)
    x = (start_x + step_x * columns).clamp(0, width - 1)
    seen = F.embedding((y.round() * width + x.round()).long(), photograph.layout[:, 3:]).squeeze(-1)
    same = (seen == F.pixel_unshuffle(cells_of(target, token)[:, None].float(), CELLS)[:, None]).to(y.dtype)
    pattern = PROPOSAL_WEIGHTS.to(y.device)[..., None, None]
    weights = on_grid(pattern * (OTHER_CLASS_SHARE + (1 - OTHER_CLASS_SHARE) * same), WEIGHT_STEPS)
    best = weights.argmax(1, keepdim=True)
    best_y, best_x = y.gather(1, best), x.gather(1, best)
    away_y, away_x = on_grid(y - best_y, PLACE_STEPS), on_grid(x - best_x, PLACE_STEPS)
    weights = weights * (away_y.square() + away_x.square() < (BEND * token) ** 2)
    total = weights.sum(1)
    y = best_y[:, 0] + (away_y * weights).sum(1) / total
    x = best_x[:, 0] + (away_x * weights).sum(1) / total
    cell = token // CELLS
    if cell > 1:
        step_y, step_x = step_y.gather(1, best)[:, 0], step_x.gather(1, best)[:, 0]
        pixels = torch.arange(token, device=y.device)
        within = (pixels % cell - (cell - 1) / 2)[:, None, None]
        cells = (pixels[:, None] // cell * CELLS + pixels // cell).flatten()
        y = _planes(y, cells) + _planes(step_y, cells) * within.repeat_interleave(token, 0)
        x = _planes(x, cells) + _planes(step_x, cells) * within.repeat(token, 1, 1)
    y, x = F.pixel_shuffle(y, token)[:, 0], F.pixel_shuffle(x, token)[:, 0]
    return y.clamp(0, height - 1), x.clamp(0, width - 1)


def _planes(x: Tensor, numbers: Tensor) -> Tensor:
    """Some of the planes ``[N, C, h, w]``, as many as there are numbers and in their shape."""
    chosen = x.index_select(1, numbers.flatten().to(x.device))
    return chosen.view(x.shape[0], *numbers.shape, *x.shape[2:])


def _maps_around(chosen: Tensor, source: SourceTokens, token: int) -> list[Tensor]:
    """What every token and the eight around it do to a place: where they take 0, and how far per pixel.

    Returns:
        Vertical and horizontal starts, vertical and horizontal steps, ``[N, 9, h, w]`` each. At the canvas's edge
        the edge token goes on.
    """
    h, w = chosen.shape[1:]
    middles = [torch.arange(count, device=chosen.device) * token + (token - 1) / 2 for count in (h, w)]
    y, x = F.embedding(chosen, source.centres).unbind(-1)
    step_y, step_x = F.embedding(chosen, source.steps).unbind(-1)
    maps = torch.stack([y - step_y * middles[0][:, None], x - step_x * middles[1], step_y, step_x], dim=1)
    padded = pad_edges(maps, 1)
    around = torch.stack([padded[..., dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)], dim=2)
    return list(around.unbind(1))


def _cell_places(h: int, w: int, token: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the cells of h x w tokens have their middles, in pixels: ``[CELLS², h, 1]``, ``[CELLS², 1, w]``."""
    within = (torch.arange(CELLS, device=device) + 0.5) * (token // CELLS) - 0.5
    rows, columns = torch.arange(h, device=device) * token, torch.arange(w, device=device) * token
    vertical, horizontal = within[:, None].repeat(1, CELLS).flatten(), within.repeat(CELLS)
    return (rows + vertical[:, None])[:, :, None], (columns + horizontal[:, None])[:, None]


def _agreement(layout: Tensor, there: Tensor, strictness: float) -> Tensor:
    """How alike layouts ``[N, 4, H, W]``, as `Photograph.layout`'s, are: ``[N, H, W]`` in [0, 1]."""
    difference = (layout[:, :3] - there[:, :3]).abs().sum(1)
    same = (layout[:, 3] == there[:, 3]).to(layout.dtype)
    return same * (1 - strictness * difference).clamp(0, 1)


def _nearness(objects: Tensor) -> Tensor:
    """1 beside an object, falling to 0 at `BAND` pixels from it: masks ``[N, H, W]`` of 0 and 1."""
    mask = objects[:, None]
    near = torch.zeros_like(mask)
    for _ in range(BAND):
        mask = F.max_pool2d(mask, 3, 1, 1)
        near = near + mask / BAND
    return near[:, 0]


def _soften_cuts(image: Tensor, target: Tensor, share_of_photograph: Tensor) -> Tensor:
    """Anti-alias borders that were cut through layers; what comes from the photograph is smooth already."""
    ids = target[:, None].float()
    at_border = F.max_pool2d(ids, 3, 1, 1) + F.max_pool2d(-ids, 3, 1, 1) > 0
    axis = torch.tensor(CUT_SOFTENING, device=image.device)
    kernel = (axis[:, None] * axis).expand(3, 1, 3, 3)
    softened = F.conv2d(pad_edges(image, 1), kernel, groups=3)
    share = at_border * (1 - share_of_photograph)[:, None]
    return image + (softened - image) * share

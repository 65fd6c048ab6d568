"""Deciding where to copy from: every token of a target layout finds its token of the photograph.

A token's cost is how far its layout context is from the source token's, plus a little for the way; and
neighbours should continue one another, or meet where that shows least. The sum is lowered from coarse
tokens to fine ones by letting offsets spread from neighbour to neighbour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.exact_arithmetic import on_grid
from training.source_tokens import SourceTokens, space_to_depth

DISTANCE_WEIGHT = 0.05  # of the way from the source to the target, in canvas widths
JUMP_COST = 0.02  # of any change of offset between neighbours
JUMP_WEIGHT = 0.02  # of that change, in tokens
LONGEST_JUMP = 4.0  # tokens: beyond, a jump costs no more
SEAM_WEIGHT = 0.5  # of the squared difference of what meets at a jump, in image units of [0, 1]
SAME = 0.25  # tokens: offsets that differ by less are one

COST_GRID = 2.0**20
"""Costs are multiples of 1 / COST_GRID: below 16 their sums are exact, so every machine chooses alike."""

COARSE_ROUNDS = 16
FINE_ROUNDS = 10

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
NEIGHBOUR_WEIGHTS = [1.0 if dy == 0 or dx == 0 else 0.7 for dy, dx in NEIGHBOURS]


def _drawn(low: int, high: int, shape: tuple[int, ...]) -> list[Any]:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0)).tolist()


# Drawn once: where a graph is traced for export, nothing can be drawn.
JITTERS: list[list[list[int]]] = _drawn(-2, 3, (COARSE_ROUNDS, 3, 2))  # of each round: steps in tokens
FOLLOWED: list[int] = _drawn(0, len(NEIGHBOURS), (COARSE_ROUNDS,))  # of each round: a neighbour's number


@dataclass(frozen=True)
class Level:
    """Target tokens of one size, and all that they may copy."""

    source: SourceTokens
    descriptors: Tensor  # the target's, [N, h * w, D]
    rows: Tensor  # centres of the target's tokens in pixels [h]
    columns: Tensor  # [w]
    shape: tuple[int, int]  # h, w
    side: int  # a token's, in pixels
    way_cost: float  # of one pixel of way


def match(target: Tensor, sources: list[SourceTokens], token: int, width: int) -> Tensor:
    """Find every fine token's source.

    Args:
        target: descriptors of the target's fine tokens ``[N, D, h, w]``; h and w are even.
        sources: the photograph's fine tokens, then its coarse ones of twice the side.
        token: a fine token's side in pixels.
        width: the canvas's, in pixels.

    Returns:
        Numbers of fine source tokens, int64 ``[N, h, w]``.
    """
    fine, coarse = sources
    upper = _level(space_to_depth(target), coarse, 2 * token, width)
    chosen = _settle(_cheapest(upper), upper, COARSE_ROUNDS)
    lower = _level(target, fine, token, width)
    return _settle(_children(chosen, coarse, fine), lower, FINE_ROUNDS)


def _level(target: Tensor, source: SourceTokens, side: int, width: int) -> Level:
    h, w = target.shape[-2:]
    rows = torch.arange(h, device=target.device) * side + (side - 1) / 2
    columns = torch.arange(w, device=target.device) * side + (side - 1) / 2
    descriptors = target.flatten(2).transpose(1, 2)
    return Level(source, descriptors, rows, columns, (h, w), side, DISTANCE_WEIGHT / width)


def _cheapest(level: Level) -> Tensor:
    """The source token of least cost for every target token, each on its own: int64 ``[N, h, w]``."""
    source = level.source
    away_y = (level.rows[:, None] - source.centres[:, 0]).square()
    away_x = (level.columns[:, None] - source.centres[:, 1]).square()
    way = (away_y[:, None] + away_x).sqrt().flatten(0, 1)
    fixed = on_grid(level.way_cost * way + source.cost, COST_GRID) + source.squares
    # The target descriptor's own square is the same for all its candidates.
    cost = fixed - 2 * level.descriptors @ source.descriptors.T
    return cost.argmin(-1).view(-1, *level.shape)


def _children(chosen: Tensor, coarse: SourceTokens, fine: SourceTokens) -> Tensor:
    """Four fine tokens go on where their coarse one was: ``[N, h, w]`` to ``[N, 2h, 2w]``."""
    first = coarse.child[chosen]
    below = first + fine.stride[first]
    rows = torch.stack([first, first + 1], dim=-1).flatten(-2)
    lower_rows = torch.stack([below, below + 1], dim=-1).flatten(-2)
    return torch.stack([rows, lower_rows], dim=-2).flatten(-3, -2)


def _settle(chosen: Tensor, level: Level, rounds: int) -> Tensor:
    """Let offsets spread between neighbours; odd and even tokens take turns."""
    h, w = level.shape
    device = chosen.device
    numbers = torch.arange(h * w, device=device).view(h, w)
    around = torch.stack([_shifted(numbers, dy, dx).flatten() for dy, dx in NEIGHBOURS])
    # The tokens of either colour of a chessboard, and the order that puts one half before the other back in place.
    turns = _chessboard(numbers)
    orders = [torch.cat([turns[odd], turns[1 - odd]]).argsort() for odd in (0, 1)]
    flat = chosen.flatten(1)
    for number in range(rounds):
        odd = number % 2
        better = _round(flat, level, turns[odd], around[:, turns[odd]], number)
        flat = torch.cat([better, flat[:, turns[1 - odd]]], dim=1)[:, orders[odd]]
    return flat.view_as(chosen)


def _chessboard(numbers: Tensor) -> list[Tensor]:
    """The black and the white numbers of a board ``[h, w]``, w even: ``[h * w / 2]`` each."""
    pairs = numbers.unflatten(1, (-1, 2))
    odd_row = (torch.arange(len(numbers), device=numbers.device) % 2)[:, None]
    return [torch.where(odd_row == odd, pairs[..., 0], pairs[..., 1]).flatten() for odd in (0, 1)]


def _round(flat: Tensor, level: Level, tokens: Tensor, around: Tensor, number: int) -> Tensor:
    """The cheapest of each token's candidates: its own source, its neighbours' continued, some beside them.

    Args:
        flat: all tokens' sources, int64 ``[N, h * w]``.
        level: what they may copy.
        tokens: those whose turn it is ``[T]``.
        around: their eight neighbours ``[8, T]``.
        number: the round's.

    Returns:
        Their sources, ``[N, T]``.
    """
    source = level.source
    own = flat[:, tokens]
    continued = _beside(flat[:, around], [(-dy, -dx) for dy, dx in NEIGHBOURS], source)
    starts = torch.stack([own, own, continued[:, FOLLOWED[number]]], dim=1)
    # Its own source comes first, so that a tie changes nothing.
    candidates = torch.cat([own[:, None], continued, _beside(starts, JITTERS[number], source)], dim=1)
    cost = _own_cost(candidates, tokens, level) + _joining_cost(candidates, level)
    best = cost.argmin(1, keepdim=True)
    return candidates.gather(1, best)[:, 0]


def _beside(numbers: Tensor, steps: Sequence[Sequence[int]], source: SourceTokens) -> Tensor:
    """Source tokens ``[N, S, T]``, each of the S rows moved by its step (y, x)."""
    moves = torch.tensor(steps, device=numbers.device)[:, :, None]
    return numbers + moves[:, 0] * source.stride[numbers] + moves[:, 1]


def _own_cost(candidates: Tensor, tokens: Tensor, level: Level) -> Tensor:
    """What each candidate ``[N, C, T]`` costs by itself, less what all of a token's candidates cost alike."""
    source = level.source
    h, w = level.shape
    places_y = level.rows[:, None].expand(h, w).flatten()[tokens]
    places_x = level.columns.expand(h, w).flatten()[tokens]
    way = (
        (source.centres[:, 0][candidates] - places_y).square() + (source.centres[:, 1][candidates] - places_x).square()
    ).sqrt()
    seen = source.descriptors[candidates.transpose(1, 2)]  # [N, T, C, D]
    likeness = (seen @ level.descriptors[:, tokens, :, None])[..., 0].transpose(1, 2)
    fixed = on_grid(level.way_cost * way + source.cost[candidates], COST_GRID)
    return fixed + source.squares[candidates] - 2 * likeness


def _joining_cost(candidates: Tensor, level: Level) -> Tensor:
    """What each candidate ``[N, C, T]`` costs beside its neighbours, the continuations of which are numbers 1 to 8."""
    source = level.source
    y, x = source.centres[:, 0][candidates], source.centres[:, 1][candidates]
    jump = ((y[:, :, None] - y[:, None, 1:9]).square() + (x[:, :, None] - x[:, None, 1:9]).square()).sqrt() / level.side
    seam = _seams(source.appearance[candidates.transpose(1, 2)]).permute(0, 2, 3, 1)
    jumps = (jump > SAME).to(jump.dtype)
    cost = jumps * (JUMP_COST + SEAM_WEIGHT * seam) + JUMP_WEIGHT * jump.clamp(max=LONGEST_JUMP)
    weights = torch.tensor(NEIGHBOUR_WEIGHTS, device=cost.device)[:, None]
    return on_grid(weights * cost, COST_GRID).sum(2)


def _seams(appearance: Tensor) -> Tensor:
    """Mean squared differences in levels of [0, 1] between candidates and continuations: ``[N, T, C, 12]`` to ``[N, T, C, 8]``."""
    squares = appearance.square().sum(-1)
    products = appearance @ appearance[:, :, 1:9].transpose(-1, -2)
    return (squares[..., None] + squares[:, :, None, 1:9] - 2 * products) / appearance.shape[-1]


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """``[h, w]`` with every place holding its neighbour's value; at the edge, its own row's or column's."""
    h, w = x.shape
    rows = (torch.arange(h, device=x.device) + dy).clamp(0, h - 1)
    columns = (torch.arange(w, device=x.device) + dx).clamp(0, w - 1)
    return x[rows][:, columns]

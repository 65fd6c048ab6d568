"""Deciding where to copy from: every token of a target layout finds its token of the photograph.

A token's cost is how far its layout context is from the source token's, plus a little for the way; and
neighbours should continue one another, or meet where that shows least. The sum is lowered from coarse
tokens to fine ones by letting offsets spread from neighbour to neighbour.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.source_tokens import SourceTokens, space_to_depth

DISTANCE_WEIGHT = 0.05  # of the way from the source to the target, in canvas widths
JUMP_COST = 0.02  # of any change of offset between neighbours
JUMP_WEIGHT = 0.02  # of that change, in tokens
LONGEST_JUMP = 4.0  # tokens: beyond, a jump costs no more
SEAM_WEIGHT = 0.5  # of the squared difference of what meets at a jump, in image units of [0, 1]
SAME = 0.25  # tokens: offsets that differ by less are one

COARSE_ROUNDS = 16
FINE_ROUNDS = 10

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
NEIGHBOUR_WEIGHTS = [1.0 if dy == 0 or dx == 0 else 0.7 for dy, dx in NEIGHBOURS]


@dataclass(frozen=True)
class Level:
    """Target tokens of one size, and all that they may copy."""

    source: SourceTokens
    descriptors: Tensor  # the target's, [N, h * w, D]
    places: Tensor  # centres of the target's tokens, [h * w, 2] (y, x) in pixels
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
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    descriptors = target.flatten(2).transpose(1, 2)
    return Level(source, descriptors, places, (h, w), side, DISTANCE_WEIGHT / width)


def _cheapest(level: Level) -> Tensor:
    """The source token of least cost for every target token, each on its own: int64 ``[N, h, w]``."""
    source = level.source
    way = (level.places.square().sum(1)[:, None] + source.centres.square().sum(1)) - 2 * level.places @ source.centres.T
    fixed = level.way_cost * way.clamp_min(0).sqrt() + source.cost + source.descriptors.square().sum(1)
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
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    turns = [((rows + columns) % 2 == odd).to(chosen.device) for odd in (0, 1)]
    jitters = torch.randint(-2, 3, (rounds, 3, 2), generator=torch.Generator().manual_seed(rounds)).tolist()
    followed = torch.randint(len(NEIGHBOURS), (rounds,), generator=torch.Generator().manual_seed(rounds)).tolist()
    for number in range(rounds):
        better = _round(chosen, level, jitters[number], followed[number])
        chosen = torch.where(turns[number % 2], better, chosen)
    return chosen


def _round(chosen: Tensor, level: Level, jitters: list[list[int]], followed: int) -> Tensor:
    """The cheapest of each token's candidates: its own source, its neighbours' continued, some beside them."""
    source = level.source
    around = [_shifted(chosen, dy, dx) for dy, dx in NEIGHBOURS]
    continued = [
        number - dy * source.stride[number] - dx for number, (dy, dx) in zip(around, NEIGHBOURS, strict=True)
    ]
    starts = [chosen, chosen, continued[followed]]
    beside = [start + dy * source.stride[start] + dx for start, (dy, dx) in zip(starts, jitters, strict=True)]
    # Its own source comes first, so that a tie changes nothing.
    candidates = torch.stack([chosen, *continued, *beside], dim=1).flatten(2)  # [N, candidates, h * w]
    appearance = source.appearance[candidates]
    centres = source.centres[candidates]
    cost = _own_cost(candidates, centres, level)
    for k, weight in enumerate(NEIGHBOUR_WEIGHTS, start=1):
        jump = (centres - centres[:, k : k + 1]).square().sum(-1).sqrt() / level.side
        seam = (appearance - appearance[:, k : k + 1]).square().mean(-1)
        jumps = (jump > SAME).to(jump.dtype)
        cost = cost + weight * (
            jumps * (JUMP_COST + SEAM_WEIGHT * seam) + JUMP_WEIGHT * jump.clamp(max=LONGEST_JUMP)
        )
    best = cost.argmin(1, keepdim=True)
    return candidates.gather(1, best).view_as(chosen)


def _own_cost(candidates: Tensor, centres: Tensor, level: Level) -> Tensor:
    context = (level.source.descriptors[candidates] - level.descriptors[:, None]).square().sum(-1)
    way = (centres - level.places).square().sum(-1).sqrt()
    return context + level.way_cost * way + level.source.cost[candidates]


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """``[N, h, w]`` with every place holding its neighbour's value; at the edge, its own row's or column's."""
    h, w = x.shape[-2:]
    rows = (torch.arange(h, device=x.device) + dy).clamp(0, h - 1)
    columns = (torch.arange(w, device=x.device) + dx).clamp(0, w - 1)
    return x.index_select(-2, rows).index_select(-1, columns)

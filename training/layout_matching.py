"""Deciding where to copy from: every token of a target layout finds its token of the photograph.

A token's cost is how far its layout context is from the source token's, plus a little for the way; and
neighbours should continue one another, or meet where that shows least. The sum is lowered from coarse
tokens to fine ones by letting offsets spread from neighbour to neighbour.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.context_encoder import joined_descriptors
from training.exact_arithmetic import on_grid
from training.neighbourhood import beside
from training.source_tokens import APPEARANCE_SIZE, ENLARGED, PLAIN, SourceTokens
from training.stages import stage

DISTANCE_WEIGHT = 0.05  # of the way from the source to the target, in canvas widths
JUMP_COST = 0.02  # of any change of offset between neighbours
JUMP_WEIGHT = 0.02  # of that change, in tokens
LONGEST_JUMP = 4.0  # tokens: beyond, a jump costs no more
SEAM_WEIGHT = 0.5  # of the squared difference of what meets at a jump, in image units of [0, 1]
SAME = 0.25  # tokens: offsets that differ by less are one

COST_STEPS = 2.0**20
"""Costs are counted in whole parts of one in so many: below 16 their sums are exact, so every machine chooses alike."""

LEAST_GAIN = 0.005  # in cost a coarse token, by which the enlarged photograph must explain a layout better
DISCOUNT = 14.0  # on enlarged variants, per such gain beyond that
GAIN_STEPS = 2.0**10  # tokens' gains and
DISCOUNT_STEPS = 2.0**8  # the discount are multiples of one part in so many

COARSE_ROUNDS = 8
FINE_ROUNDS = 6

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
NEIGHBOUR_WEIGHTS = [1.0 if dy == 0 or dx == 0 else 0.7 for dy, dx in NEIGHBOURS]


def _drawn(low: int, high: int, shape: tuple[int, ...]) -> list[Any]:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0)).tolist()


# Drawn once: where a graph is traced for export, nothing can be drawn.
JITTERS: list[list[list[int]]] = _drawn(-2, 3, (COARSE_ROUNDS, 3, 2))  # of each round: steps in tokens
FOLLOWED: list[int] = _drawn(0, len(NEIGHBOURS), (COARSE_ROUNDS,))  # of each round: a neighbour's number


CANDIDATES = [0, *range(1, 9), 0, 0]  # a token's own source, its neighbours' continued, two beside its own;
# then one beside a neighbour's. Its own comes first, so that a tie changes nothing.


@dataclass(frozen=True)
class Level:
    """Target tokens of one size, and all that they may copy; costs are in steps of `COST_STEPS`."""

    source: SourceTokens
    likeness: Tensor  # of every source token, [M, D + 1]: times the target's, the squared distance less a constant
    target: Tensor  # the target's tokens', [N, h * w, D + 1]
    facts: Tensor  # of every source token, [M, 4]: its centre (y, x) in pixels, its cost, what of that may fall away
    seams: tuple[Tensor, Tensor]  # of every source token, [M, 14] twice: the product is two tokens' squared difference
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
    with stage("coarse matching"):
        upper = _level(joined_descriptors(target), coarse, 2 * token, width)
        chosen, discount = _cheapest(upper)
        chosen = _settle(chosen, upper, discount, COARSE_ROUNDS)
    with stage("fine matching"):
        lower = _level(target, fine, token, width)
        return _settle(_children(chosen, coarse, fine), lower, discount, FINE_ROUNDS)


def _level(target: Tensor, source: SourceTokens, side: int, width: int) -> Level:
    h, w = target.shape[-2:]
    rows = torch.arange(h, device=target.device) * side + (side - 1) / 2
    columns = torch.arange(w, device=target.device) * side + (side - 1) / 2
    cells = target.flatten(2).transpose(1, 2)
    squares = source.appearance.square().sum(1, keepdim=True)
    ones = torch.ones_like(squares)
    return Level(
        source=source,
        likeness=torch.cat([source.descriptors, source.descriptors.square().sum(1, keepdim=True)], dim=1),
        target=torch.cat([-2 * cells, torch.ones_like(cells[..., :1])], dim=-1) * COST_STEPS,
        facts=torch.cat([source.centres, torch.stack([source.cost, source.saving], dim=1) * COST_STEPS], dim=1),
        seams=(
            torch.cat([source.appearance, squares, ones], dim=1),
            torch.cat([-2 * source.appearance, ones, squares], dim=1),
        ),
        places=torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1),
        shape=(h, w),
        side=side,
        way_cost=DISTANCE_WEIGHT / width * COST_STEPS,
    )


def _cheapest(level: Level) -> tuple[Tensor, Tensor]:
    """Where every target token copies from, each on its own; and what of enlarged variants' costs falls away.

    Copies of the photograph at its own scale cost least, so that textures stay sharp; a layout whose objects are
    larger would then be pieced together from repetitions. Where the photograph twice as large explains the layout's
    contexts better, enlarging it becomes as cheap.

    Returns:
        Numbers of source tokens, int64 ``[N, h, w]``; the discount ``[N, 1, 1]``.
    """
    costs, tokens = [], []
    for allowed in torch.split(level.source.allowed, list(level.source.counts)):
        y, x = level.facts[allowed, :2].unbind(1)
        way = ((level.places[:, :1] - y).square() + (level.places[:, 1:] - x).square()).sqrt()
        cost = level.target @ level.likeness[allowed].T + (level.way_cost * way).round()
        best = cost.argmin(-1, keepdim=True)
        costs.append(cost.gather(-1, best))
        tokens.append(F.embedding(best[..., 0], allowed[:, None]))
    discount = _discount((costs[PLAIN] - costs[ENLARGED])[..., 0])
    found = torch.cat(tokens, dim=-1)
    facts = F.embedding(found, level.facts)
    total = torch.cat(costs, dim=-1) + (facts[..., 2] - torch.minimum(facts[..., 3], discount)).round()
    chosen = found.gather(-1, total.argmin(-1, keepdim=True))
    return chosen.view(-1, *level.shape), discount


def _discount(gain: Tensor) -> Tensor:
    """By what the enlarged photograph explains each token ``[N, T]`` better, a discount ``[N, 1, 1]`` on enlarging."""
    mean = (gain * (GAIN_STEPS / COST_STEPS)).round().sum(1) / (GAIN_STEPS * gain.shape[1])
    discount = on_grid(DISCOUNT * (mean - LEAST_GAIN).clamp(min=0), DISCOUNT_STEPS)
    return discount[:, None, None] * COST_STEPS


def _children(chosen: Tensor, coarse: SourceTokens, fine: SourceTokens) -> Tensor:
    """Four fine tokens go on where their coarse one was: ``[N, h, w]`` to ``[N, 2h, 2w]``."""
    first = F.embedding(chosen, coarse.child[:, None]).squeeze(-1)
    below = first + fine.stride
    rows = torch.stack([first, first + 1], dim=-1).flatten(-2)
    lower_rows = torch.stack([below, below + 1], dim=-1).flatten(-2)
    return torch.stack([rows, lower_rows], dim=-2).flatten(-3, -2)


def _settle(chosen: Tensor, level: Level, discount: Tensor, rounds: int) -> Tensor:
    """Let offsets spread between neighbours; odd and even tokens take turns."""
    numbers = torch.arange(level.shape[0] * level.shape[1], device=chosen.device).view(level.shape)
    around = beside(level.shape, [(0, 0), *NEIGHBOURS], chosen.device).flatten(1)
    turns = [_Turn(level, around, tokens, discount) for tokens in _chessboard(numbers)]
    odd = (numbers % level.shape[1] + numbers // level.shape[1]) % 2
    # Where each token is found when one half's sources are followed by the other's.
    place = numbers.flatten() // 2
    half = len(place) // 2
    orders = [place + half * (odd.flatten() != turn) for turn in (0, 1)]
    flat = chosen.flatten(1)
    for number in range(rounds):
        turn = turns[number % 2]
        better = turn.better(flat, number)
        kept = flat.index_select(1, turns[1 - number % 2].tokens)
        flat = torch.cat([better, kept], dim=1).index_select(1, orders[number % 2])
    return flat.view_as(chosen)


def _chessboard(numbers: Tensor) -> list[Tensor]:
    """The numbers on a board ``[h, w]``'s black and on its white squares, ``[h * w / 2]`` each; w is even."""
    pairs = numbers.view(len(numbers), -1, 2)
    odd_row = (torch.arange(len(numbers), device=numbers.device) % 2)[:, None]
    return [torch.where(odd_row == odd, pairs[..., 0], pairs[..., 1]).flatten() for odd in (0, 1)]


class _Turn:
    """Half of a level's tokens, T of them, no two of them edge to edge: they choose at once."""

    def __init__(self, level: Level, around: Tensor, tokens: Tensor, discount: Tensor) -> None:
        self.level = level
        self.discount = discount
        self.tokens = tokens
        near = around.index_select(1, tokens)  # themselves, then their eight neighbours
        self.around = near.flatten()
        back = torch.stack(
            [tokens // level.shape[1] - near // level.shape[1], tokens % level.shape[1] - near % level.shape[1]]
        )
        self.back = back[0] * level.source.stride + back[1]  # from a neighbour's source on to where it continues
        self.target = level.target.index_select(1, tokens)[..., None]
        self.y, self.x = level.places.index_select(0, tokens).unbind(1)
        # Beyond the grid's edge stand the tokens at the edge, which count once, as the neighbours that they are.
        real = (back[:, 1:] == -torch.tensor(NEIGHBOURS, device=tokens.device).T[:, :, None]).all(0)
        self.weights = torch.tensor(NEIGHBOUR_WEIGHTS, device=tokens.device)[:, None] * real

    def better(self, flat: Tensor, number: int) -> Tensor:
        """The cheapest of each token's candidates in a round, ``[N, T]``, from all tokens' sources ``[N, h * w]``."""
        near = flat.index_select(1, self.around).view(flat.shape[0], 1 + len(NEIGHBOURS), -1)
        follow = FOLLOWED[number] + 1
        beside_it = [dy * self.level.source.stride + dx for dy, dx in JITTERS[number]]
        aside = torch.tensor([0] * (1 + len(NEIGHBOURS)) + beside_it, device=flat.device)
        starts = torch.tensor([*CANDIDATES, follow], device=flat.device)
        candidates = (near + self.back).index_select(1, starts) + aside[:, None]
        best = self._cost(candidates).argmin(1, keepdim=True)
        return candidates.gather(1, best)[:, 0]

    def _cost(self, candidates: Tensor) -> Tensor:
        """Of candidates ``[N, C, T]``, numbers 1 to 8 of which are the neighbours' continuations."""
        level = self.level
        by_token = candidates.transpose(1, 2)
        likeness = (F.embedding(by_token, level.likeness) @ self.target).squeeze(-1).transpose(1, 2)
        y, x, cost, saving = F.embedding(candidates, level.facts).unbind(-1)
        way = ((y - self.y).square() + (x - self.x).square()).sqrt()
        alone = likeness + (level.way_cost * way + cost - torch.minimum(saving, self.discount)).round()
        here, there = level.seams
        seam = F.embedding(by_token, here) @ F.embedding(by_token[..., 1:9], there).transpose(-1, -2)
        return alone + self._joining(y, x, seam.permute(0, 2, 3, 1)).sum(2)

    def _joining(self, y: Tensor, x: Tensor, seam: Tensor) -> Tensor:
        """What each candidate costs beside each neighbour, ``[N, C, 8, T]``."""
        side = self.level.side
        jump = ((y[:, :, None] - y[:, None, 1:9]).square() + (x[:, :, None] - x[:, None, 1:9]).square()).sqrt()
        cut = JUMP_COST * COST_STEPS + (SEAM_WEIGHT / APPEARANCE_SIZE * COST_STEPS) * seam
        cost = torch.where(jump > SAME * side, cut, torch.zeros_like(cut))
        cost = cost + JUMP_WEIGHT / side * COST_STEPS * jump.clamp(max=LONGEST_JUMP * side)
        return (self.weights * cost).round()

"""Class layers: the photograph as if one class covered the whole canvas.

What lies behind and beside an object is not in the photograph. It is completed here by copying: every
unknown token of pixels takes a source position inside the class, so that neighbouring tokens continue one
another (shift maps: Pritch et al. 2009; candidates spread from neighbours and at random as in PatchMatch,
Barnes et al. 2009). Done once a scene, before training.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.patch_voting import vote

TOKEN = 4
"""Pixels along a token's side: what is copied as one."""

EROSION = 3
"""Pixels along a class's border that are not trusted to show the class alone: soft edges, careless labels."""

REACH = 8
"""Tokens around an object within which its layer is completed carefully; further out it is hardly ever seen."""

ROUNDS = 60
SEAM_WEIGHT = 60.0  # of the squared difference of two tokens' appearance where they meet
JUMP_COST = 0.02  # of any change of offset between neighbours
DISTANCE_WEIGHT = 0.3  # of the way a token is copied, in canvas widths
OUTSIDE_COST = 1e3  # of copying what is not the class

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
_NEIGHBOUR_WEIGHTS = torch.tensor([1.0 if dy == 0 or dx == 0 else 0.7 for dy, dx in NEIGHBOURS])


def complete_layers(image: Tensor, class_ids: Tensor, whole: list[bool]) -> Tensor:
    """Complete every class over the canvas.

    Args:
        image: the photograph, float32 ``[3, H, W]`` in [0, 1]; H and W are multiples of `TOKEN`.
        class_ids: int64 ``[H, W]``.
        whole: for each of K classes, whether its layer is wanted everywhere, or only around its objects.

    Returns:
        float32 ``[K, 3, H, W]`` in [0, 1]; inside a class, away from its border, its layer is the photograph.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.stack(
        [_complete(image, class_ids == class_id, everywhere, generator) for class_id, everywhere in enumerate(whole)]
    )


def _complete(image: Tensor, mask: Tensor, everywhere: bool, generator: torch.Generator) -> Tensor:
    if not mask.any():
        return image.clone()  # a class of the palette that this crop of the photograph lacks
    known, valid = _trusted(mask)
    search = _Search(image, known, valid, generator)
    search.run(everywhere)
    painted = vote(image, search.rows, search.columns, TOKEN)
    inner = _eroded(known, 1)
    share = (known.float() + inner.float()) / 2
    return image * share + painted * (1 - share)


def _eroded(mask: Tensor, pixels: int) -> Tensor:
    """A mask ``[H, W]`` without what lies within ``pixels`` of its border; the canvas's edge is no border."""
    if pixels == 0:
        return mask
    outside = F.max_pool2d(1 - mask.float()[None, None], 2 * pixels + 1, 1, pixels)
    return outside[0, 0] < 0.5


def _trusted(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels that show the class alone, and the top left corners of tokens that may be copied from.

    A thin class keeps less of a margin, down to none: the token that holds most of it is then its source.
    """
    for erosion in range(EROSION, -1, -1):
        known = _eroded(mask, erosion)
        for margin in (TOKEN // 2, 0):
            share = _share_in_tokens(known, margin)
            if int((share >= 1).sum()) >= TOKEN * TOKEN:
                return known, share >= 1
    share = _share_in_tokens(mask, 0)
    return mask, share >= 0.9 * share.max()


def _share_in_tokens(mask: Tensor, margin: int) -> Tensor:
    """For every top left corner, the share of its token (and a margin around it) that a mask covers."""
    size = TOKEN + 2 * margin
    padded = F.pad(mask.float()[None, None], (margin, TOKEN - 1 + margin) * 2)  # what sticks out counts as uncovered
    covered = F.avg_pool2d(padded, size, 1)[0, 0]
    height, width = mask.shape
    # Tokens that touch the canvas's edge need no margin beyond it.
    canvas = F.avg_pool2d(F.pad(torch.ones(1, 1, height, width), (margin, TOKEN - 1 + margin) * 2), size, 1)[0, 0]
    covered = covered / canvas
    covered[height - TOKEN + 1 :] = 0
    covered[:, width - TOKEN + 1 :] = 0
    return (covered + 1e-4).clamp(max=1).floor() + covered * (covered < 1 - 1e-4)


@dataclass
class _Positions:
    """Top left corners in the photograph, int64, all of one shape."""

    y: Tensor
    x: Tensor

    def moved(self, dy: Tensor | int, dx: Tensor | int) -> "_Positions":
        return _Positions(self.y + dy, self.x + dx)

    def at(self, index: Tensor) -> "_Positions":
        return _Positions(self.y[index], self.x[index])


class _Search:
    """The state of one layer's completion: for every token, where it is copied from."""

    def __init__(self, image: Tensor, known: Tensor, valid: Tensor, generator: torch.Generator) -> None:
        self.height, self.width = known.shape
        self.grid = (self.height // TOKEN, self.width // TOKEN)
        self.generator = generator
        self.valid = valid.flatten()
        self.features = _appearance(image)
        self.sources = _Positions(*torch.nonzero(valid, as_tuple=True))
        home_y, home_x = torch.meshgrid(
            torch.arange(self.grid[0]) * TOKEN, torch.arange(self.grid[1]) * TOKEN, indexing="ij"
        )
        self.home = _Positions(home_y.flatten(), home_x.flatten())
        self.known = F.avg_pool2d(known.float()[None, None], TOKEN).flatten() >= 1
        guess = self._nearby_source()
        self.state = _Positions(
            torch.where(self.known, self.home.y, guess.y), torch.where(self.known, self.home.x, guess.x)
        )
        self.neighbours = self._neighbour_indices()

    @property
    def rows(self) -> Tensor:
        """Vertical offsets in pixels, int64 ``[H / TOKEN, W / TOKEN]``."""
        return (self.state.y - self.home.y).view(self.grid)

    @property
    def columns(self) -> Tensor:
        """Horizontal offsets in pixels."""
        return (self.state.x - self.home.x).view(self.grid)

    def run(self, everywhere: bool) -> None:
        """Let offsets spread and settle; odd and even tokens take turns."""
        near = self.known.view(1, 1, *self.grid).float()
        wanted = torch.ones_like(near) if everywhere else F.max_pool2d(near, 2 * REACH + 1, 1, REACH)
        active = (wanted.flatten() > 0) & ~self.known
        parity = (self.home.y + self.home.x) // TOKEN % 2
        turns = [torch.nonzero(active & (parity == odd)).flatten() for odd in (0, 1)]
        for number in range(ROUNDS):
            tokens = turns[number % 2]
            if len(tokens):
                # Far jumps at first, fine alignment later.
                self._improve(tokens, radius=max(2, int(96 * 0.5 ** (6 * number / ROUNDS))))

    def _nearby_source(self) -> _Positions:
        drawn = self.sources.at(self._random(len(self.sources.y), (24, len(self.home.y))))
        distance = (drawn.y - self.home.y) ** 2 + (drawn.x - self.home.x) ** 2
        best = distance.argmin(0, keepdim=True)
        return _Positions(drawn.y.gather(0, best)[0], drawn.x.gather(0, best)[0])

    def _random(self, below: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(below, shape, generator=self.generator)

    def _neighbour_indices(self) -> Tensor:
        """Token numbers of the eight neighbours ``[8, tokens]``; at the canvas's edge, the token itself."""
        rows, columns = self.home.y // TOKEN, self.home.x // TOKEN
        around = [
            (rows + dy).clamp(0, self.grid[0] - 1) * self.grid[1] + (columns + dx).clamp(0, self.grid[1] - 1)
            for dy, dx in NEIGHBOURS
        ]
        return torch.stack(around)

    def _improve(self, tokens: Tensor, radius: int) -> None:
        around = self.neighbours[:, tokens]
        home = self.home.at(tokens)
        gap = _Positions(self.home.y[around] - home.y, self.home.x[around] - home.x)
        # Continuing a neighbour's copy is the main candidate; the rest look about.
        continued = self.state.at(around).moved(-gap.y, -gap.x)
        pick = self._random(8, (3, len(tokens)))
        shift_y, shift_x = (self._random(2 * radius + 1, (3, len(tokens))) - radius for _ in range(2))
        jittered = _Positions(continued.y.gather(0, pick) + shift_y, continued.x.gather(0, pick) + shift_x)
        anywhere = self.sources.at(self._random(len(self.sources.y), (1, len(tokens))))
        own = self.state.at(tokens)
        candidates = _Positions(
            torch.cat([own.y[None], continued.y, jittered.y, anywhere.y]),
            torch.cat([own.x[None], continued.x, jittered.x, anywhere.x]),
        )
        best = self._cost(tokens, candidates, continued, around, gap).argmin(0, keepdim=True)
        self.state.y[tokens] = candidates.y.gather(0, best)[0]
        self.state.x[tokens] = candidates.x.gather(0, best)[0]

    def _cost(
        self, tokens: Tensor, candidates: _Positions, continued: _Positions, around: Tensor, gap: _Positions
    ) -> Tensor:
        """Cost of every candidate ``[candidates, tokens]``: its distance, its seams with eight neighbours."""
        home = self.home.at(tokens)
        distance = ((candidates.y - home.y).float() ** 2 + (candidates.x - home.x).float() ** 2).sqrt() / self.width
        cost = DISTANCE_WEIGHT * distance + OUTSIDE_COST * ~self._inside(candidates)
        seen_alone = self._seen(candidates)
        for k, weight in enumerate(_NEIGHBOUR_WEIGHTS):
            there = self.state.at(around[k])
            # The neighbour as this candidate would continue it, and this token as the neighbour would.
            seam = (self._seen(candidates.moved(gap.y[k], gap.x[k])) - self._seen(there)).square().mean(-1)
            back = (seen_alone - self._seen(continued.at(torch.tensor(k)))).square().mean(-1)
            # A known neighbour's surroundings are the photograph: here, another class.
            seam = seam + back * ~self.known[around[k]]
            jump = (candidates.y != continued.y[k]) | (candidates.x != continued.x[k])
            cost = cost + weight * jump * (SEAM_WEIGHT * seam + JUMP_COST)
        return cost

    def _inside(self, positions: _Positions) -> Tensor:
        on_canvas = (positions.y >= 0) & (positions.x >= 0) & (positions.y < self.height) & (positions.x < self.width)
        return on_canvas & self.valid[self._flat(positions)]

    def _seen(self, positions: _Positions) -> Tensor:
        return self.features[self._flat(positions)]

    def _flat(self, positions: _Positions) -> Tensor:
        return positions.y.clamp(0, self.height - 1) * self.width + positions.x.clamp(0, self.width - 1)


def _appearance(image: Tensor) -> Tensor:
    """What the token at every top left corner looks like: its four quarters' mean colours, ``[H * W, 12]``."""
    half = TOKEN // 2
    extended = F.pad(image[None], (0, TOKEN - 1) * 2, mode="replicate")
    means = F.avg_pool2d(extended, half, 1)[0]
    height, width = image.shape[-2:]
    quarters = [means[:, dy : dy + height, dx : dx + width] for dy in (0, half) for dx in (0, half)]
    return torch.cat(quarters).flatten(1).T.contiguous()

"""Descriptors of layouts: what every token of a label map has around it, near and far.

Two tokens, one of the photograph's labels and one of a target's, belong together where their descriptors
are close. Windows of growing dilation see class shares.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.exact_arithmetic import on_grid

WINDOWS = ((7, 1, 1.0), (9, 2, 0.8), (9, 4, 0.6), (5, 8, 0.5))
"""Size in tokens, dilation in tokens, weight: the nearer, the finer and the more important."""

SHARE_STEPS = 64.0
WEIGHT_STEPS = 2.0**12
DESCRIPTOR_STEPS = 2.0**9
"""Class shares, the windows' weights and descriptors are multiples of one part in so many, at inference."""

GAUSSIAN_SHARE = 1.5
"""A window's radius in standard deviations of its Gaussian weights."""


def pad_edges(x: Tensor, pixels: int) -> Tensor:
    """``[N, C, H, W]`` with its border repeated on all sides."""
    return F.pad(x, (pixels,) * 4, mode="replicate")


def smoothed(shares: Tensor, dilation: int) -> Tensor:
    """Class shares averaged over what lies between two taps of a dilated window."""
    if dilation == 1:
        return shares
    size = dilation | 1
    return F.avg_pool2d(pad_edges(shares, size // 2), size, 1)


class ContextEncoder(nn.Module):
    """Class shares of tokens to descriptors, translation-equivariant: it knows no positions."""

    def __init__(self, classes: int, width: int) -> None:
        """Build an encoder whose projection is not set yet: see `project`.

        Args:
            classes: K.
            width: D, the descriptors' size.
        """
        super().__init__()
        self.windows = nn.ModuleList(
            nn.Conv2d(classes, width, size, dilation=dilation, bias=False) for size, dilation, _ in WINDOWS
        )

    def forward(self, shares: Tensor) -> Tensor:
        """Shares ``[N, K, h, w]`` in [0, 1] to descriptors ``[N, D, h, w]``.

        All is rounded to grids on which float32 sums are exact: every machine finds the same.
        """
        shares = on_grid(shares, SHARE_STEPS)
        z = torch.zeros((), device=shares.device)
        for window, (size, dilation, _) in zip(self.windows, WINDOWS, strict=True):
            seen = pad_edges(on_grid(smoothed(shares, dilation), SHARE_STEPS), size // 2 * dilation)
            weight = cast(nn.Conv2d, window).weight
            z = z + F.conv2d(seen, on_grid(weight, WEIGHT_STEPS), dilation=dilation)
        return on_grid(z, DESCRIPTOR_STEPS)

    @torch.no_grad()
    def project(self, shares: Tensor) -> None:
        """Become the best rotation of the plain windows: their principal components over a scene's own layouts.

        The same shares give the same weights, whatever device the encoder is on.

        Args:
            shares: class shares ``[N, K, h, w]`` of the scene's label map, on the CPU.
        """
        contexts = plain_contexts(shares)
        width = cast(nn.Conv2d, self.windows[0]).out_channels
        components = min(width, *contexts.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the approximation begins with random directions
            directions = torch.pca_lowrank(contexts, q=components, niter=4)[2]
        directions = F.pad(directions, (0, width - components))
        begin = 0
        for module, (size, _, weight) in zip(self.windows, WINDOWS, strict=True):
            window = cast(nn.Conv2d, module)
            taps = window.in_channels * size * size
            rows = directions[begin : begin + taps].T.reshape(width, window.in_channels, size, size)
            window.weight.copy_(rows * (weight * gaussian(size).sqrt()))
            begin += taps


def joined_descriptors(fine: Tensor) -> Tensor:
    """Descriptors of 2x2 tokens together, their means: ``[N, D, h, w]`` to ``[N, D, h/2, w/2]``."""
    return on_grid(F.avg_pool2d(fine, 2), DESCRIPTOR_STEPS)


def gaussian(size: int) -> Tensor:
    """A window's weights ``[size, size]``, of sum 1."""
    axis = torch.arange(size) - size // 2
    squares = axis[:, None] ** 2 + axis[None, :] ** 2
    weights = torch.exp(-squares / (2 * (size // 2 / GAUSSIAN_SHARE) ** 2))
    return weights / weights.sum()


def plain_contexts(shares: Tensor) -> Tensor:
    """All windows' weighted shares, one row a token: ``[N, K, h, w]`` to ``[N * h * w, taps]``."""
    parts = []
    for size, dilation, weight in WINDOWS:
        padded = pad_edges(smoothed(shares, dilation), size // 2 * dilation)
        taps = F.unfold(padded, size, dilation=dilation)  # [N, K * size², h * w]
        scale = (weight * gaussian(size).sqrt()).flatten().repeat(shares.shape[1])
        parts.append(taps * scale[:, None])
    return torch.cat(parts, dim=1).transpose(1, 2).flatten(0, 1)

"""What is around a pixel as a short vector of whole numbers: principal components of windows.

Whole numbers small enough that float32 holds every sum of their products exactly, in any order: the same candidate
is the cheapest on every machine, with any number of threads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNIT = 85
"""A distance of 1 (colors and class shares count from 0 to 1), in steps of a descriptor."""

LARGEST = 127
"""Descriptors are clamped to this many steps: they are stored in 8 bits."""

FIXED_POINT = 4096.0
"""Weights are whole multiples of 1 / FIXED_POINT."""

SAMPLES = 3000
"""Windows of the photograph that principal components are taken from."""


@dataclass(frozen=True)
class Window:
    """Pixels around a pixel, near ones weighted higher."""

    side: int  # taps along a side, odd
    dilation: int = 1  # pixels from tap to tap; a tap is the mean over as many, so it must be a power of two
    weight: float = 1.0

    def weights(self) -> Tensor:
        """Of the taps, float32 ``[side * side]``: their squares add up to ``weight`` squared."""
        distance = torch.arange(self.side) - (self.side - 1) / 2
        gaussian = torch.exp(-(distance**2) / (2 * (self.side / 3) ** 2))
        taps = (gaussian[:, None] * gaussian).flatten()
        return (taps / taps.sum()).sqrt() * self.weight

    @property
    def reach(self) -> int:
        """Pixels from the center to the farthest tap."""
        return self.side // 2 * self.dilation

    def averaged(self, pictures: Tensor) -> Tensor:
        """Pictures ``[N, C, h, w]`` of whole numbers, each pixel the rounded mean over the dilation's square."""
        if self.dilation == 1:
            return pictures
        before, after = self.dilation // 2, self.dilation - 1 - self.dilation // 2
        padded = F.pad(pictures, (before, after, before, after), mode="replicate")
        return rounded(box_sums(padded, self.dilation) / self.dilation**2)


def rounded(x: Tensor) -> Tensor:
    """The nearest whole number, halves up."""
    return torch.floor(x + 0.5)


def box_sums(pictures: Tensor, side: int) -> Tensor:
    """Sums over all squares of so many pixels, a power of two: ``[N, C, h, w]`` less ``side - 1`` rows and columns."""
    # Pooling takes ONNX Runtime several times as long.
    for axis in (2, 3):
        step = 1
        while step < side:
            length = pictures.shape[axis] - step
            pictures = pictures.narrow(axis, 0, length) + pictures.narrow(axis, step, length)
            step *= 2
    return pictures


class WindowDescriptor(nn.Module):
    """The principal components of several windows around each pixel, as one linear map."""

    def __init__(self, channels: int, windows: tuple[Window, ...], size: int) -> None:
        """Make a map that describes nothing before `fit`, or before a state is loaded.

        Args:
            channels: C of the pictures.
            windows: what is looked at.
            size: D, how many components are kept.
        """
        super().__init__()
        self.windows = windows
        self.size = size
        self.offset = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(size, channels, window.side, window.side), requires_grad=False)
            for window in windows
        )

    def fit(self, pictures: Tensor, full: float) -> None:
        """Take the principal components of pictures.

        Args:
            pictures: whole numbers, float32 ``[V, C, h, w]``.
            full: the value that counts as 1.
        """
        rows = self._sampled_windows(pictures)
        mean = rows.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            components = min(self.size, *rows.shape)
            basis = torch.svd_lowrank(rows - mean, q=min(components + 10, *rows.shape), niter=4)[2][:, :components]
        basis = F.pad(basis, (0, self.size - components))
        scale = UNIT / full * FIXED_POINT
        self.offset.copy_(rounded(-(mean @ basis) * scale))
        channels = pictures.shape[1]
        parts = torch.split(basis, [channels * window.side**2 for window in self.windows])
        for weights, window, part in zip(self.weights, self.windows, parts, strict=True):
            taps = part.view(channels, window.side**2, self.size) * window.weights()[None, :, None]
            weights.copy_(rounded(taps.permute(2, 0, 1).reshape(weights.shape) * scale))

    def forward(self, pictures: Tensor, codes: Tensor | None = None) -> Tensor:
        """Describe every pixel.

        Args:
            pictures: whole numbers, float32 ``[N, C, h, w]``.
            codes: to be described by further numbers, each the sum over the channels at the pixel itself, weighed by
                these, ``[E, C]``; multiples of a power of two.

        Returns:
            Whole numbers within `LARGEST`, ``[N, h, w, D + E]``.
        """
        # Multiples of 1 / FIXED_POINT, which is a power of two, are as exact as whole numbers; 0.5 rounds.
        parts: list[Tensor] = []
        codes = self.offset.new_zeros(0, pictures.shape[1]) if codes is None else codes
        bias = F.pad(self.offset / FIXED_POINT, (0, codes.shape[0])) + 0.5
        for window, weights in zip(self.windows, self.weights, strict=True):
            at_center = F.pad((torch.zeros_like(codes) if parts else codes)[:, :, None, None], (window.side // 2,) * 4)
            taps = torch.cat([weights / FIXED_POINT, at_center])
            padded = F.pad(window.averaged(pictures), (window.reach,) * 4, mode="replicate")
            parts.append(F.conv2d(padded, taps, None if parts else bias, dilation=window.dilation))
        # Channels last at once: ONNX Runtime's convolutions write them so for nothing.
        described = sum(parts[1:], parts[0]).permute(0, 2, 3, 1).floor()
        return F.hardtanh(described, -LARGEST, LARGEST)  # as `clamp`, but one step of the exported graph

    def _sampled_windows(self, pictures: Tensor) -> Tensor:
        """Weighted windows around random pixels, ``[S, all windows' C * side * side]``."""
        variants, channels, height, width = pictures.shape
        random = torch.Generator().manual_seed(0)
        picked = torch.randperm(variants * height * width, generator=random)[:SAMPLES]
        variant, y, x = picked // (height * width), picked % (height * width) // width, picked % width
        parts = []
        for window in self.windows:
            steps = (torch.arange(window.side) - window.side // 2) * window.dilation
            rows = (y[:, None, None] + steps[:, None]).clamp(0, height - 1)
            columns = (x[:, None, None] + steps).clamp(0, width - 1)
            values = window.averaged(pictures).permute(0, 2, 3, 1)[variant[:, None, None], rows, columns]
            weighted = values.reshape(len(picked), -1, channels) * window.weights()[None, :, None]
            parts.append(weighted.transpose(1, 2).flatten(1))
        return torch.cat(parts, dim=1)

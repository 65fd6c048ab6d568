"""The layers of the published generator: spectral norm, instance norm, blocks (Li et al. 2020, section 3.2).

The spectral norm is written out, forward and backward.

Semantics and state dict are those of ``torch.nn.utils.parametrizations.spectral_norm``. That one records
many small operations a weight for autograd, copies weights that are stored channels-last, and multiplies
by the weight once more than is needed; the generator has 80 weights, normalized at every step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

INITIAL_POWER_ITERATIONS = 15
EPSILON = 1e-12
"""The least length that a vector is divided by."""

LEAK = 0.2  # slope of LeakyReLU below zero


def spectral_norm(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Normalize a convolution's weight by its largest singular value (Miyato et al. 2018).

    The original stays trainable as ``parametrizations.weight.original``. In training mode every use of the
    weight begins with one power iteration.
    """
    transposed = isinstance(layer, nn.ConvTranspose2d)
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight, transposed=transposed))
    return layer


class SpectralNorm(nn.Module):
    """The parametrisation: a weight over its largest singular value, as a matrix of output channels by all else."""

    _u: Tensor  # float32 [out], of length 1: the left singular vector as far as it is known
    _v: Tensor  # float32 [in·k·k], of length 1: the right one

    def __init__(self, weight: Tensor, *, transposed: bool) -> None:
        """Begin with random vectors; the weight is float32 ``[out, in, k, k]``, transposed ``[in, out, k, k]``."""
        super().__init__()
        self.transposed = transposed
        u, v = self._singular_vectors(weight)
        self.register_buffer("_u", u)
        self.register_buffer("_v", v)

    @torch.no_grad()
    def restart(self, weight: Tensor) -> None:
        """Begin again, as for a new weight, of the same shape."""
        for known, found in zip((self._u, self._v), self._singular_vectors(weight), strict=True):
            known.copy_(found)

    def _singular_vectors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The left and the right one, from random ones by some power iterations."""
        matrix = (weight.detach().transpose(0, 1) if self.transposed else weight.detach()).flatten(1)
        u, v = F.normalize(torch.randn(matrix.shape[0]), dim=0), F.normalize(torch.randn(matrix.shape[1]), dim=0)
        u, v = u.to(matrix.device), v.to(matrix.device)
        for _ in range(INITIAL_POWER_ITERATIONS):
            u, v, _ = _power_iteration(matrix, v)
        return u, v

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight, float32, of the same shape."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = _matrix(weight.detach(), self.transposed)
            u, v = self._u, self._columns(weight)
            if self.training:
                u, v, sigma = _power_iteration(matrix, v)
                self._keep(u, v, weight)
            else:
                sigma = torch.dot(u, matrix @ v)
            normalized: Tensor = _Normalize.apply(weight, u, v, sigma, self.transposed)  # type: ignore[no-untyped-call]
        return normalized

    def _columns(self, weight: Tensor) -> Tensor:
        """The right vector in the column order of `_matrix`."""
        if self.transposed:
            return self._v
        _, channels, height, width = weight.shape
        return self._v.view(channels, height, width).permute(1, 2, 0).flatten()

    def _keep(self, u: Tensor, v: Tensor, weight: Tensor) -> None:
        """Store both vectors for the next power iteration."""
        self._u.copy_(u)
        if not self.transposed:
            _, channels, height, width = weight.shape
            v = v.view(height, width, channels).permute(2, 0, 1).flatten()
        self._v.copy_(v)


class _Normalize(torch.autograd.Function):
    """W / s for the singular value s = u'Wv, where u and v count as constants."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, transposed: bool) -> Tensor:
        normalized = weight / sigma
        ctx.save_for_backward(normalized, u, v, sigma)
        ctx.transposed = transposed
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """With N = W / s: dL/dW = (dL/dN - <dL/dN, N> uv') / s."""
        normalized, u, v, sigma = ctx.saved_tensors
        rows = _matrix(gradient, ctx.transposed)
        along = torch.sum(gradient * normalized)
        result = torch.addr(rows, u * -along, v).div_(sigma)
        return _weight(result, gradient.shape, ctx.transposed), None, None, None, None


def _power_iteration(matrix: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From W ``[m, n]`` and v ``[n]`` to better u ``[m]`` and v ``[n]``, and s = u'Wv, which is the length of W'u."""
    u = F.normalize(matrix @ v, dim=0, eps=EPSILON)
    image = matrix.T @ u
    sigma = torch.linalg.vector_norm(image)
    return u, image / sigma.clamp_min(EPSILON), sigma


def _matrix(weight: Tensor, transposed: bool) -> Tensor:
    """``[out, in, k, k]`` as a matrix ``[out, k·k·in]``, a view of a channels-last weight.

    ``[in, out, k, k]``, if transposed, as ``[out, in·k·k]``.
    """
    return weight.transpose(0, 1).flatten(1) if transposed else weight.permute(0, 2, 3, 1).flatten(1)


def _weight(matrix: Tensor, shape: torch.Size, transposed: bool) -> Tensor:
    """The inverse of `_matrix`."""
    first, second, height, width = shape
    if transposed:
        return matrix.view(second, first, height, width).transpose(0, 1)
    return matrix.view(first, height, width, second).permute(0, 3, 1, 2)


def instance_norm(x: Tensor, *, scale: float = 1.0, epsilon: float = 1e-5) -> Tensor:
    """Bring each channel of each sample ``[N, C, H, W]`` to mean 0 and deviation ``scale`` (biased variance).

    Same shape and dtype; statistics are taken in float32, or in float64 for float64.
    """
    weight = torch.full((x.shape[1],), scale, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    # One sample's instance norm is its batch norm, which, unlike PyTorch's instance norm, takes channels-last
    # activations without copying them there and back. (Exported graphs have no gradients, and any batch size.)
    if x.requires_grad and x.shape[0] == 1:
        return F.batch_norm(x, None, None, weight, torch.zeros_like(weight), training=True, eps=epsilon)
    return F.instance_norm(x, weight=weight, eps=epsilon)


class InstanceNorm(nn.Module):
    """`instance_norm` as a layer, without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        return instance_norm(x)


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Module:
    """A spectrally normalized convolution."""
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=bias))


def base_block(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Reflection padding, convolution without bias, batch norm, LeakyReLU; keeps the size."""
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2),
        conv(in_channels, out_channels, kernel, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAK, inplace=True),
    )


class ResidualBlock(nn.Module):
    """A bottleneck to a quarter of the channels, added to its input; without norms inside the SFT heads."""

    def __init__(self, channels: int, *, norm: bool = True) -> None:
        super().__init__()
        narrow = channels // 4

        def stage(convolution: nn.Module, width: int, *, activate: bool) -> list[nn.Module]:
            norms: list[nn.Module] = [nn.BatchNorm2d(width)] if norm else []
            return [convolution, *norms, *([nn.LeakyReLU(LEAK, inplace=True)] if activate else [])]

        self.body = nn.Sequential(
            *stage(conv(channels, narrow, 1), narrow, activate=True),
            nn.ReflectionPad2d(1),
            *stage(conv(narrow, narrow, 3), narrow, activate=True),
            *stage(conv(narrow, channels, 1), channels, activate=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        residual: Tensor = self.body(x)
        return x + residual


def down_block(channels: int) -> nn.Sequential:
    """``[N, C, H, W]`` to ``[N, 2C, H/2, W/2]``."""
    return nn.Sequential(
        ResidualBlock(channels),
        conv(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(LEAK, inplace=True),
        conv(channels, 2 * channels, 4, stride=2, padding=1),
        nn.BatchNorm2d(2 * channels),
        nn.LeakyReLU(LEAK, inplace=True),
    )


def up_block(channels: int) -> nn.Sequential:
    """``[N, C, H, W]`` to ``[N, C/2, 2H, 2W]``."""
    return nn.Sequential(
        ResidualBlock(channels),
        conv(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(LEAK, inplace=True),
        spectral_norm(nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)),
        nn.BatchNorm2d(channels // 2),
        nn.LeakyReLU(LEAK, inplace=True),
    )


@torch.no_grad()
def even_out_phases(kernels: Tensor) -> None:
    """Let the phases of a transposed convolution of stride 2 answer a flat area alike: ``[in, out, 4, 4]``, in place.

    Whether an output pixel's row and column are even or odd decides which four of the sixteen weights it sees. Along
    each axis, the least change is made that leaves both halves the same sum.
    """
    for halves in (kernels, kernels.transpose(2, 3)):
        even, odd = halves[:, :, ::2], halves[:, :, 1::2]
        difference = (even.sum(2, keepdim=True) - odd.sum(2, keepdim=True)) / halves.shape[2]
        even -= difference
        odd += difference


def initialize(module: nn.Module, gain: float) -> None:
    """Xavier initialization of weights with a gain (0.02 as published), zero biases, norm scales N(1, 0.02).

    Weights with a spectral norm keep PyTorch's own initialization: the public code's gain never reaches them, and
    from weights so small each of Adam's first steps, absolute in size, would turn the whole weight around.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            if not parametrize.is_parametrized(layer, "weight"):
                nn.init.xavier_normal_(layer.weight, gain=gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)

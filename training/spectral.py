"""Spectral normalisation as published, with its forward and backward pass written out.

Semantics and state dict are those of ``torch.nn.utils.parametrizations.spectral_norm``. That one records
many small operations a weight for autograd, copies weights that are stored channels-last, and multiplies
by the weight once more than is needed; the generator has 80 weights, normalised at every step.
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


def spectral_norm(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Normalise a convolution's weight by its largest singular value (Miyato et al. 2018).

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
        """Begin with random vectors and some power iterations.

        Args:
            weight: float32 ``[out, in, k, k]``.
            transposed: whether it is ``[in, out, k, k]`` instead.
        """
        super().__init__()
        self.transposed = transposed
        matrix = (weight.detach().transpose(0, 1) if transposed else weight.detach()).flatten(1)
        u, v = F.normalize(torch.randn(matrix.shape[0]), dim=0), F.normalize(torch.randn(matrix.shape[1]), dim=0)
        for _ in range(INITIAL_POWER_ITERATIONS):
            u, v, _ = _power_iteration(matrix, v)
        self.register_buffer("_u", u)
        self.register_buffer("_v", v)

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight, float32, of the same shape."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = _matrix(weight.detach(), self.transposed)
            u, v = self._u, self._columns(weight)
            if self.training:
                u, v, sigma = _power_iteration(matrix, v)
                self._keep(u, v, weight)
            else:
                sigma = torch.dot(u, matrix @ v)
            normalised: Tensor = _Normalise.apply(weight, u, v, sigma, self.transposed)  # type: ignore[no-untyped-call]
        return normalised

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


class _Normalise(torch.autograd.Function):
    """W / s for the singular value s = u'Wv, where u and v count as constants."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor, transposed: bool) -> Tensor:
        normalised = weight / sigma
        ctx.save_for_backward(normalised, u, v, sigma)
        ctx.transposed = transposed
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """With N = W / s: dL/dW = (dL/dN - <dL/dN, N> uv') / s."""
        normalised, u, v, sigma = ctx.saved_tensors
        rows = _matrix(gradient, ctx.transposed)
        along = torch.sum(gradient * normalised)
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

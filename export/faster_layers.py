"""Layers of the published generator in forms that compute the same faster; their sums round differently, no more."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks import LEAK, ResidualBlock
from training.generator import Decoder, Generator, TranslationHead


def with_faster_layers(generator: Generator) -> Generator:
    """The generator itself, some of its layers replaced.

    Args:
        generator: spectral norms resolved, batch norms folded.
    """
    for heads in (generator.gamma_heads, generator.beta_heads):
        for level, head in enumerate(heads):
            assert isinstance(head, TranslationHead)
            heads[level] = ShortTranslationHead(head)
    _upsample_by_phases(generator.decoder)
    return generator


def _upsample_by_phases(decoder: Decoder) -> None:
    for up in decoder.ups:
        assert isinstance(up, nn.Sequential)
        *before, transposed, folded_norm, activation = up
        assert isinstance(transposed, nn.ConvTranspose2d)
        assert isinstance(folded_norm, nn.Identity)
        assert isinstance(activation, nn.LeakyReLU)
        for layer in range(len(before), len(up)):
            up[layer] = nn.Identity()
        up[len(before)] = PhaseUpsampling(transposed)


class PhaseUpsampling(nn.Module):
    """A 4x4 transposed convolution of stride 2, and the LeakyReLU behind it, as four 2x2 convolutions.

    Even and odd output rows and columns each see a quarter of the weights. ONNX Runtime spreads the products of a
    transposed convolution over the output one by one, which takes longer than the products themselves.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        """Take the weights over.

        Args:
            transposed: of kernel 4, stride 2 and padding 1.
        """
        super().__init__()
        assert (transposed.kernel_size, transposed.stride, transposed.padding) == ((4, 4), (2, 2), (1, 1))
        assert transposed.bias is not None
        self.bias = transposed.bias
        # Output row 2i takes input rows i - 1 and i by the kernel's rows 3 and 1; row 2i + 1 takes i and i + 1 by 2, 0.
        taps = ([3, 1], [2, 0])
        weight = transposed.weight.detach().transpose(0, 1)
        for row in (0, 1):
            for column in (0, 1):
                phase = weight[:, :, taps[row]][..., taps[column]].contiguous()
                self.register_buffer(f"weight_{row}{column}", phase)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C', 2H, 2W]``."""
        rows = [torch.stack([self._phase(x, row, column) for column in (0, 1)], dim=-1) for row in (0, 1)]
        return torch.stack(rows, dim=3).flatten(4, 5).flatten(2, 3)

    def _phase(self, x: Tensor, row: int, column: int) -> Tensor:
        """Every second row and column of the result, from the given ones on: ``[N, C', H, W]``."""
        padded = F.pad(x, (1 - column, column, 1 - row, row))
        return F.leaky_relu(F.conv2d(padded, self.get_buffer(f"weight_{row}{column}"), self.bias), LEAK)


class ShortTranslationHead(nn.Module):
    """A translation head that never widens its bottleneck to all channels only to narrow them again.

    A 1x1 convolution of the residual block's sum is the sum of two: of the block's input, and of the bottleneck by the
    product of both weights. It spares a sixth of these multiply-adds and a pass over the widest activations.
    """

    def __init__(self, head: TranslationHead) -> None:
        """Take the weights over.

        Args:
            head: spectral norms resolved.
        """
        super().__init__()
        residual, narrow, self.activation, self.last = head.body
        assert isinstance(residual, ResidualBlock)
        assert isinstance(narrow, nn.Conv2d)
        *bottleneck, widen = residual.body
        assert isinstance(widen, nn.Conv2d)
        self.bottleneck = nn.Sequential(*bottleneck)
        outer, inner = narrow.weight.detach().double().flatten(1), widen.weight.detach().double().flatten(1)
        assert narrow.bias is not None
        assert widen.bias is not None
        self.register_buffer("direct", narrow.weight.detach())
        self.register_buffer("through", (outer @ inner).float()[..., None, None])
        self.register_buffer("bias", (narrow.bias.double() + outer @ widen.bias.double()).detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, h, w]`` to the same shape."""
        direct = F.conv2d(x, self.get_buffer("direct"), self.get_buffer("bias"))
        output: Tensor = self.last(self.activation(direct + F.conv2d(self.bottleneck(x), self.get_buffer("through"))))
        return output

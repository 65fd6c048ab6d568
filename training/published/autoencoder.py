"""First weights with which the generator draws its photograph, before any training.

From random weights the first minutes of training go into learning to keep detail through three halvings; the windows
of a skyline never came in ten. Here each halving is begun as principal components of 2x2 patches, each doubling as the
least-squares way back, and all between them as the identity. Channels that are left over stay random.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semia.training.published.generator import Decoder, Generator, ImageEncoder, modulate
from semia.training.published.layers import LEAK, ResidualBlock, SpectralNorm

LINEAR_BIAS = 1.5
"""Bias of norms of variance 1 before a LeakyReLU, in deviations: little is left below zero."""

RIDGE = 1e-5
"""Of the least squares: a share of the mean variance of what is fitted."""

LEFT_OVER = 8
"""Of a level's channels, at least one in so many stays random where the components would fill them all."""


@torch.no_grad()
def begin_as_autoencoder(generator: Generator, image: Tensor) -> None:
    """Give a new generator weights with which ``image`` of equal label maps is about ``image``.

    The label encoder and, but for their last biases, the translation heads stay as they are; with plates, the heads
    translate next to nothing yet.

    Args:
        generator: a new one, in training mode.
        image: float32 ``[1, 3, H, W]`` in [-1, 1], on the generator's device.
    """
    levels = _begin_encoder(generator.image_encoder, image)
    _begin_decoder(generator.decoder, levels, image)
    for scales, shifts in zip(generator.gamma_heads, generator.beta_heads, strict=True):
        # A draft has been translated: there is little left to do.
        _answer(scales, 1.0, 1.0, always=generator.plates is not None)
        _answer(shifts, 0.0, 0.0, always=generator.plates is not None)


def _begin_encoder(encoder: ImageEncoder, image: Tensor) -> list[Tensor]:
    """Begin the encoder; returns what its levels keep of the picture, fine to coarse: ``[1, n, h, w]``.

    The first are the picture's own colors, the last is the code, all channels of it.
    """
    _pass_through(_layers(encoder.head)[1:], count := image.shape[1])
    x = encoder.head(image)
    levels, deviations = [x[:, :count]], x.new_ones(count)
    for down in encoder.downs:
        residual, *same, halving, norm, _ = _layers(down)
        _keep_still(residual)
        _pass_through(same, count)
        patches = F.pixel_unshuffle(nn.Sequential(*same)(x)[:, :count], 2)
        weight = _random_rows(_original_weight(halving))
        components, deviations = _components(patches, deviations, len(weight))
        weight[: len(components)] = 0
        weight[: len(components), :count, 1:3, 1:3] = components.view(-1, count, 2, 2)
        _set_weight(halving, weight)
        _let_pass(norm, count := len(components))
        x = _normalized(down(x))
        levels.append(x[:, :count])
    _pass_through(_layers(encoder.tail)[1:], count)
    return [*levels, encoder.tail(x)]


def _begin_decoder(decoder: Decoder, levels: Sequence[Tensor], image: Tensor) -> None:
    """Begin the decoder; ``levels`` are the encoder's, the code last, as `_begin_encoder` returns them."""
    *kept, code = levels
    _pass_through(_layers(decoder.head)[1:], kept[-1].shape[1])
    x = decoder.head(code)
    for up, coarse, fine in zip(decoder.ups, kept[:0:-1], kept[-2::-1], strict=True):
        x = _normalized(x)
        residual, *same, doubling, norm, _ = _layers(up)
        _keep_still(residual)
        _pass_through(same, coarse.shape[1])
        _set_weight(doubling, _doubling(_original_weight(doubling), nn.Sequential(*same)(x), fine))
        _let_pass(norm, fine.shape[1])
        x = up(x)
    padding, last, norm, _ = _layers(decoder.tail)
    shape = _original_weight(last).shape
    # LeakyReLU takes four fifths of what is below zero.
    wanted = torch.where(image < 0, image / LEAK, image)[0].flatten(1).T
    patches = F.unfold(padding(x), shape[2])[0].T
    patches = patches - patches.mean(0)
    weight = _least_squares(patches, wanted - wanted.mean(0))
    _set_weight(last, weight.T.reshape(shape))
    norm.get_parameter("weight").copy_((patches @ weight).std(0))
    norm.get_parameter("bias").copy_(wanted.mean(0))


def _components(patches: Tensor, deviations: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """What a halving keeps of 2x2 patches, most of their variance first, and its deviations.

    Args:
        patches: ``[1, 4n, h, w]`` of channels that were normalized.
        deviations: ``[n]``, what these channels had before: the components are the picture's own.
        channels: how many there are to fill.

    Returns:
        Rows of length 1 ``[m, 4n]`` to multiply patches by, and the deviations ``[m]`` of the picture's components.
    """
    scales = deviations.repeat_interleave(4)
    centered = patches[0].flatten(1) * scales.unsqueeze(1)
    centered = centered - centered.mean(1, keepdim=True)
    variances, directions = torch.linalg.eigh(centered @ centered.T / centered.shape[1])
    count = len(scales) if len(scales) < channels else channels - channels // LEFT_OVER
    rows = directions.flip(1)[:, :count].T * scales
    return F.normalize(rows, dim=1), variances.flip(0)[:count].clamp_min(1e-10).sqrt()


def _doubling(weight: Tensor, x: Tensor, wanted: Tensor) -> Tensor:
    """The transposed convolution's kernels ``[in, out, 4, 4]`` that make the first of their channels of ``wanted``.

    Of every 2x2 output pixels each is made of the one input pixel below it. There is no constant term: one of its own
    for each of the four would be a woven pattern.
    """
    count = wanted.shape[1]
    kernels = torch.randn_like(weight)
    kernels[:, :count] = 0
    inputs = x[0].flatten(1).T
    for row in (0, 1):
        for column in (0, 1):
            targets = wanted[0, :, row::2, column::2].flatten(1).T
            kernels[:, :count, 1 + row, 1 + column] = _least_squares(inputs, targets)
    lengths = kernels.square().sum((0, 2, 3)).sqrt()
    kernels[:, count:] *= (lengths[:count].mean() / lengths[count:]).view(1, -1, 1, 1)
    return kernels


def _least_squares(inputs: Tensor, targets: Tensor) -> Tensor:
    """W ``[C, O]`` with which ``[M, C]`` times W is about ``[M, O]``, solved in float64."""
    inputs, targets = inputs.double(), targets.double()
    products = inputs.T @ inputs
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    weights: Tensor = torch.linalg.solve(products, inputs.T @ targets)
    return weights.float()


def _layers(block: nn.Module) -> list[nn.Module]:
    assert isinstance(block, nn.Sequential)
    return list(block)


def _original_weight(convolution: nn.Module) -> nn.Parameter:
    """What a spectrally normalized convolution is trained by."""
    return convolution.get_parameter("parametrizations.weight.original")


def _pass_through(layers: Sequence[nn.Module], count: int) -> None:
    """Convolution, batch norm, LeakyReLU: the first channels pass, normalized and almost untouched."""
    convolution, norm, _ = layers
    weight = _random_rows(_original_weight(convolution))
    weight[:count] = 0
    middle = weight.shape[2] // 2
    every = torch.arange(count)
    weight[every, every, middle, middle] = 1
    _set_weight(convolution, weight)
    _let_pass(norm, count)


def _let_pass(norm: nn.Module, count: int) -> None:
    """Lift the first channels above zero, where LeakyReLU leaves them alone."""
    norm.get_parameter("weight")[:count] = 1
    norm.get_parameter("bias")[:count] = LINEAR_BIAS


def _keep_still(residual: nn.Module) -> None:
    """Let a residual block add nothing, to begin with."""
    assert isinstance(residual, ResidualBlock)
    last = residual.body[-1]
    assert isinstance(last, nn.BatchNorm2d)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _answer(head: nn.Module, question: float, answer: float, *, always: bool) -> None:
    """Let a translation head answer a constant with a constant, by its last bias: the fixed point.

    ``always`` has it answer all else so, too, in all channels but the last, which keeps the spectral norm from 0.
    """
    if always:
        last = head.get_submodule("body.3")
        weight = _random_rows(_original_weight(last))
        weight[:-1] = 0
        _set_weight(last, weight)
    bias = head.get_parameter("body.3.bias")
    bias.zero_()
    constant = bias.new_full((1, len(bias), 3, 3), question)
    bias.copy_(answer - head(constant)[0, :, 1, 1])


def _normalized(x: Tensor) -> Tensor:
    """What the modulation of equal label maps makes of features."""
    return modulate(x, torch.ones_like(x), torch.zeros_like(x))


def _random_rows(weight: Tensor) -> Tensor:
    """A convolution's random weights, a row of length 1 for each output channel."""
    return F.normalize(weight.detach().flatten(1), dim=1).view(weight.shape)


def _set_weight(convolution: nn.Module, weight: Tensor) -> None:
    """Give a spectrally normalized convolution a weight, up to scale."""
    _original_weight(convolution).copy_(weight)
    normalization = convolution.get_submodule("parametrizations.weight.0")
    assert isinstance(normalization, SpectralNorm)
    normalization.restart(weight)

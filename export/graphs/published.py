"""The published generator's synthesis graph: label ids in, pixels out.

All that depends on the photograph alone is computed beforehand. Layers are replaced by forms that compute the same
faster; their sums round differently, no more. Where a target's layout agrees with the photograph's, its label
features are the photograph's own.

PyTorch gives the very same numbers there, and the feature ratio is exactly 1. A graph's folded norms and another
runtime's convolutions round differently: by some millionths of a channel's largest feature, which is nothing, except
where the denominator is almost 0 itself. There the ratio would be anything, and pictures would show it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from semia.training.base import stage
from semia.training.published.generator import Generator, TranslationHead, draft
from semia.training.published.layers import LEAK, ResidualBlock
from semia.training.tensors import SceneTensors, colors_from_ids, edge_indices, pixels_from_tensor

FIRST_WINDOW, NEXT_WINDOW = (14, 6), (8, 3)
"""Window and padding, at stride 2, of all that one feature of a level is computed from: pixels for the first level,
features of the level before for the next. A 4x4 convolution of stride 2 sees 4 of what two 3x3 convolutions and, on
the first level, a 7x7 one widened by 2 and 3 on each side. Reflected borders lie within."""


class LayoutAgreement(nn.Module):
    """The photograph's label features wherever a feature sees no pixel whose class differs from the photograph's."""

    source_ids: Tensor

    def __init__(self, source_ids: Tensor) -> None:
        """Take the photograph's layout: padded class ids, int64 ``[1, H, W]``."""
        super().__init__()
        self.register_buffer("source_ids", source_ids)

    def forward(self, target_ids: Tensor, source_features: list[Tensor], target_features: list[Tensor]) -> list[Tensor]:
        """Target features, those that must be the source's replaced by them.

        Of padded class ids, int64 ``[N, H, W]``, and features of each level, shallow to deep: ``[1, C, h, w]`` of the
        source, ``[N, C, h, w]`` of the target.
        """
        differs = (target_ids != self.source_ids).unsqueeze(1).float()
        exact = []
        for level, (source, target) in enumerate(zip(source_features, target_features, strict=True)):
            window, padding = FIRST_WINDOW if level == 0 else NEXT_WINDOW
            # Rows, then columns: the largest of a window in a fraction of the comparisons.
            rows = F.max_pool2d(differs, (window, 1), (2, 1), (padding, 0))
            differs = F.max_pool2d(rows, (1, window), (1, 2), (0, padding))
            exact.append(torch.where(differs > 0, target, source))
        return exact


def with_faster_layers(generator: Generator) -> Generator:
    """The generator itself, spectral norms resolved and batch norms folded, some of its layers replaced."""
    for heads in (generator.gamma_heads, generator.beta_heads):
        for level, head in enumerate(heads):
            assert isinstance(head, TranslationHead)
            heads[level] = ShortTranslationHead(head)
    for up in generator.decoder.ups:
        assert isinstance(up, nn.Sequential)
        *before, transposed, folded_norm, activation = up
        assert isinstance(transposed, nn.ConvTranspose2d)
        assert isinstance(folded_norm, nn.Identity)
        assert isinstance(activation, nn.LeakyReLU)
        for layer in range(len(before), len(up)):
            up[layer] = nn.Identity()
        up[len(before)] = PhaseUpsampling(transposed)
    return generator


class PhaseUpsampling(nn.Module):
    """A 4x4 transposed convolution of stride 2, and the LeakyReLU behind it, as four 2x2 convolutions.

    Even and odd output rows and columns each see a quarter of the weights. ONNX Runtime spreads the products of a
    transposed convolution over the output one by one, which takes longer than the products themselves.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        """Take over the weights of a convolution of kernel 4, stride 2 and padding 1."""
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
        """Take over the weights of a head whose spectral norms are resolved."""
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


def without_training_parts(generator: Generator) -> Generator:
    """A copy for inference: spectral norms resolved into weights, batch norms folded into convolutions."""
    # Built anew: a deep copy would share the parametrised classes, and removing them would break the original.
    folded = Generator(generator.width, generator.depth, generator.ratio_limit, generator.plates).eval()
    folded.load_state_dict(generator.state_dict())
    for module in folded.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    for module in folded.modules():
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
    return folded.requires_grad_(False)


def _fold_batch_norms(sequence: nn.Sequential) -> None:
    layers = list(sequence)
    for index, layer in enumerate(layers[1:], start=1):
        before = layers[index - 1]
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, (nn.Conv2d, nn.ConvTranspose2d)):
            sequence[index - 1] = fuse_conv_bn_eval(before, layer, transpose=isinstance(before, nn.ConvTranspose2d))
            sequence[index] = nn.Identity()


class SynthesisGraph(nn.Module):
    """A generator bound to its scene; exported as it stands."""

    palette: Tensor
    rows: Tensor
    columns: Tensor
    image_features: Tensor | None
    image: Tensor | None

    def __init__(self, generator: Generator, scene: SceneTensors) -> None:
        super().__init__()
        folded = without_training_parts(generator)
        self.levels = folded.depth
        self.canvas = scene.canvas
        with torch.no_grad():
            # From the generator itself: these are the ratio's denominators. Where one is almost 0, folded norms,
            # which round differently, would make another ratio of it. (For numerators, see `LayoutAgreement`.)
            source_features = generator.eval().label_encoder(scene.labels)
            # With plates, every layout is drawn from an image of its own.
            image_features = folded.image_encoder.unmodulated(scene.image) if folded.plates is None else None
            image = None if folded.plates is None else scene.image
        self.generator = with_faster_layers(folded)
        self.layout_agreement = LayoutAgreement(scene.class_ids)
        self.register_buffer("palette", scene.palette)
        self.register_buffer("rows", edge_indices(scene.canvas.height, scene.multiple))
        self.register_buffer("columns", edge_indices(scene.canvas.width, scene.multiple))
        self.register_buffer("image_features", image_features)
        self.register_buffer("image", image)
        for level, features in enumerate(source_features):
            self.register_buffer(f"source_features_{level}", features)

    def forward(self, target_labels: Tensor) -> Tensor:
        """Class ids ``uint8[N, H, W]`` on the canvas to pictures ``uint8[N, H, W, 3]``."""
        with stage("layout"):
            padded = target_labels.long().index_select(1, self.rows).index_select(2, self.columns)
            colors = colors_from_ids(padded, self.palette)
        with stage("label encoder"):
            source_features = [self.get_buffer(f"source_features_{level}") for level in range(self.levels)]
            encoded = self.generator.label_encoder(colors)
            target_features = self.layout_agreement(padded, source_features, encoded)
        with stage("feature translation"):
            translation = self.generator.translate(source_features, target_features)
        with stage("image encoder"):
            code = self.generator.image_encoder.continue_from(self._first_level(padded), translation)
        with stage("decoder"):
            image = self.generator.decoder(code, translation)
        with stage("pixels"):
            return pixels_from_tensor(image[:, :, : self.canvas.height, : self.canvas.width])

    def _first_level(self, class_ids: Tensor) -> Tensor:
        """`ImageEncoder.unmodulated` of what padded layouts ``[N, H, W]`` are drawn from."""
        if self.image_features is not None:
            return self.image_features
        assert self.image is not None
        assert self.generator.plates is not None
        drawn = draft(self.image, self.layout_agreement.source_ids, self.generator.plates, class_ids)
        return self.generator.image_encoder.unmodulated(drawn)

"""The published generator G(I, P, P'): semantic feature translation (Li et al. 2020, section 3.2)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semia.training.base import SceneGenerator
from semia.training.published.layers import ResidualBlock, base_block, conv, down_block, instance_norm, up_block
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors

RATIO_EPSILON = 1e-14
"""Keeps the feature ratio finite; far below half precision, so the ratio is always taken in float32."""

MODULATION_EPSILON = 1e-5  # added to a feature's variance before the square root


OUTLINE = 3
"""Pixels beside an outline in which the photograph may show the neighboring class: no part of either's plate."""


class Translation(NamedTuple):
    """What semantic feature translation makes of two label maps: one pair of tensors a level, shallow to deep."""

    gammas: list[Tensor]  # scales, [N, C, h, w]
    betas: list[Tensor]  # shifts, [N, C, h, w]


def modulate(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalize each channel of each sample over its positions, then scale and shift it: ``[N, C, H, W]``."""
    # Instance norm divides by the biased deviation, the published modulation by the unbiased one.
    unbiased = math.sqrt(1 - 1 / x[0, 0].numel())
    return torch.addcmul(beta, gamma, instance_norm(x, scale=unbiased, epsilon=MODULATION_EPSILON * unbiased**2))


def near_changes(class_ids: Tensor, own_ids: Tensor) -> Tensor:
    """Where a layout is another than the photograph's, or is so within `OUTLINE` pixels along both axes.

    Of class ids ``[N, H, W]`` and the photograph's, ``[1, H, W]``; bool ``[N, 1, H, W]``.
    """
    differs = (class_ids != own_ids).unsqueeze(1).float()
    return F.max_pool2d(differs, 2 * OUTLINE + 1, 1, OUTLINE) > 0


def draft(image: Tensor, own_ids: Tensor, plates: Tensor, class_ids: Tensor) -> Tensor:
    """The photograph, and where a layout is another than its own, the classes' plates.

    Args:
        image: the photograph, padded, ``[1, 3, H, W]`` in [-1, 1].
        own_ids: its class ids, ``[1, H, W]``.
        plates: each class on the whole padded canvas, uint8 ``[K, 3, H, W]``.
        class_ids: the layout, padded, int64 ``[N, H, W]``.

    Returns:
        Float32 ``[N, 3, H, W]`` in [-1, 1].
    """
    painted = torch.zeros_like(image)
    for class_id, plate in enumerate(plates):  # no index for each pixel: runtimes are slow at that
        painted = torch.where((class_ids == class_id).unsqueeze(1), plate.float() / 127.5 - 1, painted)
    return torch.where(near_changes(class_ids, own_ids), painted, image)


class LabelEncoder(nn.Module):
    """E_seg: a label map's features at every level."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.head = base_block(3, width, 7)
        self.downs = nn.ModuleList(down_block(width << level) for level in range(depth))

    def forward(self, labels: Tensor) -> list[Tensor]:
        """Color labels ``[N, 3, H, W]`` in [-1, 1] to one ``[N, 2^l·b, H/2^l, W/2^l]`` per level l = 1..n."""
        features = []
        x = self.head(labels)
        for down in self.downs:
            x = down(x)
            features.append(x)
        return features


class ImageEncoder(nn.Module):
    """E_img: the photograph's code, modulated after every level."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.head = base_block(3, width, 7)
        self.downs = nn.ModuleList(down_block(width << level) for level in range(depth))
        self.tail = base_block(width << depth, width << depth, 3)

    def forward(self, image: Tensor, translation: Translation) -> Tensor:
        """Image ``[N, 3, H, W]`` in [-1, 1] to its code ``[N, 2^n·b, H/2^n, W/2^n]``."""
        return self.continue_from(self.unmodulated(image), translation)

    def unmodulated(self, image: Tensor) -> Tensor:
        """The first level's features before their modulation: all that depends on the image alone."""
        features: Tensor = self.downs[0](self.head(image))
        return features

    def continue_from(self, first_level: Tensor, translation: Translation) -> Tensor:
        """The rest of the way from `unmodulated` to the code."""
        x = modulate(first_level, translation.gammas[0], translation.betas[0])
        for level, down in enumerate(self.downs[1:], start=1):
            x = modulate(down(x), translation.gammas[level], translation.betas[level])
        code: Tensor = self.tail(x)
        return code


class Decoder(nn.Module):
    """From the code back to a picture, modulated before every level, deepest first."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.head = base_block(width << depth, width << depth, 3)
        self.ups = nn.ModuleList(up_block(width << level) for level in range(depth, 0, -1))
        self.tail = base_block(width, 3, 3)

    def forward(self, code: Tensor, translation: Translation) -> Tensor:
        """Code ``[N, 2^n·b, H/2^n, W/2^n]`` to an image ``[N, 3, H, W]``, not bounded."""
        x = self.head(code)
        for up, gamma, beta in zip(self.ups, reversed(translation.gammas), reversed(translation.betas), strict=True):
            x = up(modulate(x, gamma, beta))
        image: Tensor = self.tail(x)
        return image


class TranslationHead(nn.Module):
    """One level's head: feature ratios to gamma, or feature differences to beta."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ResidualBlock(channels, norm=False),
            conv(channels, channels // 2, 1),
            nn.ReLU(),
            conv(channels // 2, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, h, w]`` to the same shape."""
        output: Tensor = self.body(x)
        return output


class Synthesis(NamedTuple):
    """A generator's answer."""

    image: Tensor  # [N, 3, H, W], not bounded: clamp to [-1, 1] before it becomes pixels
    translation: Translation


class Generator(SceneGenerator):
    """G(I, P, P'): the appearance of image I, whose layout is P, in the layout P'.

    Height and width of everything that goes in are multiples of ``2 ** depth``.
    """

    plates: Tensor | None

    def __init__(
        self, width: int = 32, depth: int = 3, ratio_limit: float | None = None, plates: Tensor | None = None
    ) -> None:
        """Build an untrained generator.

        Args:
            width: a field of `semia.training.settings.TrainingSettings`, as are the next two.
            depth: likewise.
            ratio_limit: likewise.
            plates: each class on the whole padded canvas, uint8 ``[K, 3, H, W]``; part of the state. None, as
                published, for a generator that is always given the photograph.
        """
        super().__init__()
        self.width = width
        self.depth = depth
        self.ratio_limit = ratio_limit
        self.register_buffer("plates", plates)
        self.label_encoder = LabelEncoder(width, depth)
        self.image_encoder = ImageEncoder(width, depth)
        self.decoder = Decoder(width, depth)
        channels = [width << level for level in range(1, depth + 1)]
        self.gamma_heads = nn.ModuleList(TranslationHead(count) for count in channels)
        self.beta_heads = nn.ModuleList(TranslationHead(count) for count in channels)

    @classmethod
    def from_settings(cls, settings: TrainingSettings, scene: SceneTensors | None = None) -> "Generator":
        """An untrained generator as the settings want it, on the CPU.

        Only with ``class_plates`` it is of one scene, whose size its plates have, still gray.
        """
        plates = None
        if settings.class_plates:
            assert scene is not None, "class plates are a scene's"
            plates = torch.full((len(scene.palette), *scene.image.shape[1:]), 128, dtype=torch.uint8)
        return cls(settings.generator_width, settings.depth, settings.ratio_limit, plates)

    def image_for(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """The image that a layout is drawn from, in [-1, 1].

        Args:
            scene: the scene that the generator was made of.
            target_ids: padded class ids, int64 ``[N, H, W]``.

        Returns:
            ``[N, 3, H, W]``: the photograph; with plates, the `draft` of the layout.
        """
        if self.plates is None:
            return scene.image.expand(len(target_ids), -1, -1, -1)
        return draft(scene.image, scene.class_ids, self.plates, target_ids)

    def synthesize(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """Padded class ids ``[N, H, W]`` to images ``[N, 3, H, W]``, not bounded."""
        count = len(target_ids)
        image = self.image_for(scene, target_ids)
        source_labels = scene.labels.expand(count, -1, -1, -1)
        synthesis: Synthesis = self(image, source_labels, scene.colors(target_ids))
        return synthesis.image

    def translate(self, source_features: list[Tensor], target_features: list[Tensor]) -> Translation:
        """Semantic feature translation: gamma from the ratio, beta from the difference of label features."""
        gammas, betas = [], []
        levels = zip(self.gamma_heads, self.beta_heads, source_features, target_features, strict=True)
        for gamma_head, beta_head, source, target in levels:
            wide = torch.promote_types(source.dtype, torch.float32)
            ratio = (target.to(wide) + RATIO_EPSILON) / (source.to(wide) + RATIO_EPSILON)
            if self.ratio_limit is not None:
                ratio = ratio.clamp(-self.ratio_limit, self.ratio_limit)
            gammas.append(gamma_head(ratio))
            betas.append(beta_head(target - source))
        return Translation(gammas, betas)

    def forward(self, image: Tensor, source_labels: Tensor, target_labels: Tensor) -> Synthesis:
        """Image and color labels, each ``[N, 3, H, W]`` in [-1, 1], to the image in the target layout."""
        translation = self.translate(*self._label_features(source_labels, target_labels))
        return Synthesis(self.decoder(self.image_encoder(image, translation), translation), translation)

    def _label_features(self, source_labels: Tensor, target_labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both label maps' features.

        In training mode they go through the encoder as one batch, so that they share batch statistics, as they
        do at inference: their ratio compares like with like. In inference mode each goes alone, as in the public
        code and in the exported graph: convolutions round differently for another batch size, and where a
        denominator is almost 0, the ratio shows it.
        """
        if not self.training:
            return self.label_encoder(source_labels), self.label_encoder(target_labels)
        halves = [features.chunk(2) for features in self.label_encoder(torch.cat([source_labels, target_labels]))]
        return [half[0] for half in halves], [half[1] for half in halves]

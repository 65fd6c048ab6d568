"""The discriminator D: patches at two scales of a feature pyramid (Li et al. 2020, section 3.3)."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from semia.training.published.layers import LEAK, InstanceNorm, conv


class Judgement(NamedTuple):
    """What the discriminator says of an image, and the features it says it from."""

    scores: list[Tensor]  # real/fake maps, [N, 1, h, w], fine to coarse
    features: list[Tensor]  # the two deeper encoder features, for feature matching


def _norm_block(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        InstanceNorm(),
        nn.LeakyReLU(LEAK, inplace=True),
    )


class Discriminator(nn.Module):
    """A feature-pyramid patch discriminator on images alone."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            [
                _norm_block(3, width, 3, stride=2),
                _norm_block(width, 2 * width, 3, stride=2),
                _norm_block(2 * width, 4 * width, 3, stride=2),
            ]
        )
        self.lateral_fine = _norm_block(2 * width, 4 * width, 1)
        self.lateral_coarse = _norm_block(4 * width, 4 * width, 1)
        self.smooth_fine = _norm_block(4 * width, 2 * width, 3)
        self.smooth_coarse = _norm_block(4 * width, 2 * width, 3)
        self.score = nn.Conv2d(2 * width, 1, 1)  # without spectral norm, which would cap its slope

    def forward(self, image: Tensor) -> Judgement:
        """Image ``[N, 3, H, W]`` in [-1, 1] to scores at 1/4 and 1/8 of its size."""
        shallow = self.encoder[0](image)
        middle = self.encoder[1](shallow)
        deep = self.encoder[2](middle)
        coarse = self.lateral_coarse(deep)
        upsampled = F.interpolate(coarse, size=middle.shape[2:], mode="bilinear", align_corners=True)
        fine = self.lateral_fine(middle) + upsampled
        scores = [self.score(self.smooth_fine(fine)), self.score(self.smooth_coarse(coarse))]
        return Judgement(scores, [middle, deep])

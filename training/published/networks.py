"""The networks that only train the generator: discriminator D and segmentation S (Li et al. 2020, 3.3 and 3.4)."""

from typing import NamedTuple

import torch
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
    """D: judges patches of an image, and it alone, at two scales of a feature pyramid."""

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


class SegmentationNetwork(nn.Module):
    """S: a small ASPP head on RGB that predicts color labels; it judges in training mode, as the public code does."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, width, 1, bias=False)
        self.near = nn.Conv2d(3, width, 3, padding=8, dilation=8, bias=False)
        self.far = nn.Conv2d(3, width, 3, padding=16, dilation=16, bias=False)
        self.pooled = nn.Conv2d(3, width, 1)
        self.project = nn.Conv2d(4 * width, width, 1, bias=False)
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 3, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image ``[N, 3, H, W]`` in [-1, 1] to label colors ``[N, 3, H, W]``, not bounded."""
        branches = [self.point(image), self.near(image), self.far(image)]
        branches.append(self.pooled(F.adaptive_avg_pool2d(image, 1)))
        # The projection of the pyramid as a sum of projections, the pooled branch's being equal everywhere: the
        # pyramid itself would be written and read once more.
        parts = torch.split(self.project.weight, self.project.out_channels, dim=1)
        projected = F.conv2d(F.relu(branches[0]), parts[0])
        for branch, part in zip(branches[1:], parts[1:], strict=True):
            projected = projected + F.conv2d(F.relu(branch), part)
        labels: Tensor = self.classify(self.dropout(F.relu(projected)))
        return labels

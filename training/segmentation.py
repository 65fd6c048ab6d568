"""The segmentation network S: label colours from a picture (Li et al. 2020, section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """A small ASPP head on RGB that predicts colour labels."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.point = self._branch(3, width, 1)
        self.near = self._branch(3, width, 3, dilation=8)
        self.far = self._branch(3, width, 3, dilation=16)
        # No norm here: the pooled branch is one value a channel, which normalising would set to zero.
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, width, 1), nn.ReLU(inplace=True))
        self.project = nn.Sequential(self._branch(4 * width, width, 1), nn.Dropout(0.5))
        self.classify = nn.Sequential(self._branch(width, width, 3), nn.Conv2d(width, 3, 1))

    @staticmethod
    def _branch(in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1) -> nn.Sequential:
        padding = dilation * (kernel // 2)
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image ``[N, 3, H, W]`` in [-1, 1] to label colours ``[N, 3, H, W]``, not bounded."""
        pooled = F.interpolate(self.pooled(image), size=image.shape[2:], mode="nearest")
        pyramid = torch.cat([self.point(image), self.near(image), self.far(image), pooled], dim=1)
        labels: Tensor = self.classify(self.project(pyramid))
        return labels

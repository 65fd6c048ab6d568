"""The segmentation network S: label colours from a picture (Li et al. 2020, section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """A small ASPP head on RGB that predicts colour labels; it judges in training mode, as the public code does."""

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
        """Image ``[N, 3, H, W]`` in [-1, 1] to label colours ``[N, 3, H, W]``, not bounded."""
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

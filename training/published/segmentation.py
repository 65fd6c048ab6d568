"""The segmentation network S: label colours from a picture (Li et al. 2020, section 3.4)."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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

    def frozen(self) -> "FrozenSegmentation":
        """What the network computes in inference mode with its present weights, without their gradients."""
        return FrozenSegmentation(self)


class FrozenSegmentation:
    """S as a judge of outputs: half the cost of the network itself, as nothing but the image has a gradient.

    Norms are folded into convolutions, and the pooled branch, equal at every position, becomes a bias.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        network.eval()
        with torch.no_grad():
            self._branches = [_fold(branch) for branch in (network.point, network.near, network.far)]
            self._project = _fold(cast(nn.Sequential, network.project[0]))
            self._refine = _fold(cast(nn.Sequential, network.classify[0]))
        self._pooled = copy.deepcopy(network.pooled).requires_grad_(False)
        self._classify = copy.deepcopy(network.classify[1]).requires_grad_(False)

    def __call__(self, image: Tensor) -> Tensor:
        """Image ``[1, 3, H, W]`` in [-1, 1] to label colours ``[1, 3, H, W]``, not bounded."""
        width = self._project.out_channels
        *parts, everywhere = torch.split(self._project.weight, width, dim=1)
        bias = F.conv2d(self._pooled(image), everywhere, self._project.bias).flatten()
        # The projection of the pyramid as a sum of projections: the pyramid itself would be written and read twice.
        projected = F.conv2d(self._branches[0](image).relu_(), parts[0], bias)
        for branch, part in zip(self._branches[1:], parts[1:], strict=True):
            projected = projected.add_(F.conv2d(branch(image).relu_(), part))
        labels: Tensor = self._classify(self._refine(projected.relu_()).relu_())
        return labels


def _fold(branch: nn.Sequential) -> nn.Conv2d:
    """A convolution and its norm, in inference mode, as one convolution without gradients."""
    convolution, norm = cast(nn.Conv2d, branch[0]), cast(nn.BatchNorm2d, branch[1])
    return fuse_conv_bn_eval(convolution, norm).requires_grad_(False)

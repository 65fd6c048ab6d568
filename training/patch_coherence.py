"""Patch coherence: every patch of the output should exist in the source, in an area of the same class (section 3.4).

Vectorised: patches are rows of a matrix, nearest neighbours come from one matrix product and one
top-k; candidates of another class are infinitely far.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 5
"""The distance is the mean over this many nearest source patches."""

FeatureMaps = Callable[[Tensor], Sequence["FeatureMap"]]
"""From an image ``[1, 3, H, W]`` in [-1, 1] to the feature maps whose patches are compared."""


@dataclass(frozen=True)
class FeatureMap:
    """One feature map and the patch size it is compared with."""

    values: Tensor  # [1, C, h, w]
    patch: int  # side of the square patches, odd


def rgb_features(image: Tensor) -> Sequence[FeatureMap]:
    """The pixels themselves, in 3x3 patches and, at half the size, in 3x3 patches again."""
    return [FeatureMap(image, 3), FeatureMap(F.avg_pool2d(image, 2), 3)]


@dataclass(frozen=True)
class PatchCoherence:
    """The loss; patches are drawn anew at every call, from PyTorch's global generator of the device."""

    features: FeatureMaps  # what is compared: `rgb_features`, or a VGG19's
    output_patches: int = 1024  # drawn uniformly from the output
    source_patches: int = 4096  # drawn from the source, evenly over its classes so that small ones are there

    def __call__(self, output: Tensor, output_ids: Tensor, source: Tensor, source_ids: Tensor) -> Tensor:
        """Mean squared distance of output patches to their nearest source patches of the same class.

        ``output`` and ``source`` are ``[1, 3, H, W]`` in [-1, 1], their class ids ``[1, H, W]``.
        Gradients flow into the output alone.
        """
        with torch.no_grad():
            source_maps = self.features(source)
        losses = [
            self._one_map(ours, output_ids, theirs, source_ids)
            for ours, theirs in zip(self.features(output), source_maps, strict=True)
        ]
        return torch.stack(losses).mean()

    def _one_map(self, output: FeatureMap, output_ids: Tensor, source: FeatureMap, source_ids: Tensor) -> Tensor:
        output_classes = _classes_at(output_ids, output)
        source_classes = _classes_at(source_ids, source)
        drawn = torch.randint(len(output_classes), (self.output_patches,), device=output_classes.device)
        candidates = _draw_evenly(source_classes, self.source_patches)
        queries, query_classes = _patches(output, drawn), output_classes[drawn]
        keys, key_classes = _patches(source, candidates), source_classes[candidates]
        with torch.no_grad():
            distances = torch.cdist(queries, keys)
            distances.masked_fill_(query_classes.unsqueeze(1) != key_classes, torch.inf)
            nearest = distances.topk(NEIGHBOURS, largest=False)
        found = nearest.values.isfinite()
        squared = ((queries.unsqueeze(1) - keys[nearest.indices]) ** 2).mean(-1)
        # A class that the source lacks has no neighbours: its patches say nothing.
        return (squared * found).sum() / found.sum().clamp_min(1)


def _classes_at(class_ids: Tensor, feature: FeatureMap) -> Tensor:
    """The class at the centre of every patch of a feature map, row by row: ``[L]``."""
    height, width = feature.values.shape[2:]
    resized = F.interpolate(class_ids.unsqueeze(1).float(), size=(height, width), mode="nearest")[0, 0]
    margin = feature.patch // 2
    return resized[margin : height - margin, margin : width - margin].reshape(-1)


def _draw_evenly(classes: Tensor, count: int) -> Tensor:
    """Draw ``count`` indices into ``[L]`` classes, each class equally often."""
    _, inverse, sizes = torch.unique(classes, return_inverse=True, return_counts=True)
    return torch.multinomial(1 / sizes[inverse].float(), count, replacement=True)


def _patches(feature: FeatureMap, indices: Tensor) -> Tensor:
    """The patches at ``[M]`` positions as rows ``[M, C·patch²]``."""
    values, patch = feature.values[0], feature.patch
    columns = values.shape[2] - patch + 1
    top, left = indices // columns, indices % columns
    span = torch.arange(patch, device=values.device)
    rows = (top.unsqueeze(1) + span).unsqueeze(2)
    cols = (left.unsqueeze(1) + span).unsqueeze(1)
    return values[:, rows, cols].permute(1, 0, 2, 3).reshape(len(indices), -1)

"""The losses of semantic image analogy (Li et al. 2020, section 3.4).

Patch coherence: every patch of the output should exist in the source, in an area of the same class.

Vectorized: patches are rows of a matrix, and nearest neighbors come from one matrix product and a top-k within
the class. Shapes do not depend on the label maps, so that a step can be recorded as a CUDA graph.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.published.generator import Translation
from semia.training.published.networks import Judgement

NEIGHBOURS = 5
"""The distance is the mean over this many nearest source patches."""

LITTLE = 0.05
"""Where less of a picture counts than this share, its patches' distribution has less weight, in proportion."""

GROUP = 32
"""The nearest are first looked for among groups of this many source patches."""

FeatureMaps = Callable[[Tensor], Sequence["FeatureMap"]]
"""From an image ``[1, 3, H, W]`` in [-1, 1] to the feature maps whose patches are compared."""


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def least_squares_real(judgement: Judgement) -> Tensor:
    """Least-squares GAN: how far the scores are from "real" (1), mean over the scales."""
    return _mean([((score - 1) ** 2).mean() for score in judgement.scores])


def least_squares_fake(judgement: Judgement) -> Tensor:
    """Least-squares GAN: how far the scores are from "fake" (0), mean over the scales."""
    return _mean([(score**2).mean() for score in judgement.scores])


def feature_matching(fake: Judgement, real: Judgement) -> Tensor:
    """L1 between the discriminator's features of two images of one size; no gradient into the real one."""
    pairs = zip(fake.features, real.features, strict=True)
    return _mean([F.l1_loss(ours, theirs.detach()) for ours, theirs in pairs])


def fixed_point(translation: Translation) -> Tensor:
    """Equal label maps translate nothing: L1 of every gamma to 1 and of every beta to 0, summed over the levels."""
    scales = torch.stack([(gamma - 1).abs().mean() for gamma in translation.gammas])
    shifts = torch.stack([beta.abs().mean() for beta in translation.betas])
    return scales.sum() + shifts.sum()


def gradient_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """L1 between the differences of neighboring pixels of two pictures ``[N, C, H, W]``, summed over both directions.

    In the manner of the gradient difference loss (Mathieu et al. 2016).
    """
    difference = ours - theirs
    return difference.diff(dim=3).abs().mean() + difference.diff(dim=2).abs().mean()


def semantic_alignment(predicted_labels: Tensor, target_labels: Tensor) -> Tensor:
    """L1 between the labels that S sees in the output and the target's, both colors ``[N, 3, H, W]``.

    The public code takes it without gradients, so there it teaches nothing; here it reaches G.
    """
    return F.l1_loss(predicted_labels, target_labels)


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
    """What patch coherence compares, and how many patches."""

    features: FeatureMaps  # what is compared: `rgb_features`, or a VGG19's
    class_count: int  # of the palette: class ids are below it
    output_patches: int = 1024  # drawn uniformly from the output
    source_patches: int = 4096  # drawn from the source, evenly over its classes so that small ones are there

    def to_source(self, source: Tensor, source_ids: Tensor, output_ids: Tensor) -> Callable[[Tensor], Tensor]:
        """The loss of outputs with classes ``output_ids``; what depends on the source is computed here, once.

        ``source`` is ``[1, 3, H, W]`` in [-1, 1], both class ids are ``[1, H, W]``. The loss of an output, of the
        source's shape and range, is the mean absolute difference of its patches from their nearest in the source:
        float32, with gradients; 0 where the source has none of the output's classes. Patches are drawn anew at every
        call, from the device's global generator.
        """
        with torch.no_grad():
            maps = self.features(source)
            banks = [_PatchBank.of(feature, source_ids, output_ids, self.class_count) for feature in maps]

        def loss(output: Tensor) -> Tensor:
            maps = self.features(output)
            with torch.autocast(output.device.type, enabled=False):  # bfloat16 would mistake neighbors
                losses = [
                    bank.loss(feature, self.output_patches, self.source_patches)
                    for bank, feature in zip(banks, maps, strict=True)
                ]
                return torch.stack(losses).mean()

        return loss


@dataclass(frozen=True)
class PatchDistribution:
    """Sliced Wasserstein distance of patches, class by class, at full and half the size (Elnekave and Weiss 2022)."""

    class_count: int  # of the palette: class ids are below it
    patch: int = 7  # side of the square patches
    directions: int = 48  # random ones, drawn anew at every call, that patches are projected on
    samples: int = 1024  # patches of each class, drawn uniformly

    def __call__(self, output: Tensor, output_ids: Tensor, source: Tensor, source_ids: Tensor) -> Tensor:
        """How far apart the sorted projections of both pictures' patches are; 0 for classes that one of them lacks.

        Args:
            output: ``[1, 3, H, W]`` in [-1, 1].
            output_ids: its class ids, ``[1, H, W]``; what is not to count has an id beyond the classes'.
            source: the picture to resemble, likewise.
            source_ids: its class ids.

        Returns:
            Float32, with gradients into ``output``: the mean over sizes, classes by their share of what counts.
        """
        distances = []
        for scale in (1, 2):
            directions = torch.randn(self.directions, 3, self.patch, self.patch, device=output.device)
            directions = directions / directions.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            ours, shares = self._sorted(output, output_ids, directions, scale)
            theirs, source_shares = self._sorted(source, source_ids, directions, scale)
            distances.append(((ours - theirs).abs().mean((0, 2)) * shares * (source_shares > 0)).sum())
        return _mean(distances)

    def _sorted(self, image: Tensor, ids: Tensor, directions: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """Sorted projections of some patches of each class, ``[directions, K, samples]``, and their shares ``[K]``."""
        feature = FeatureMap(F.avg_pool2d(image.float(), scale), self.patch)
        projected = F.conv2d(feature.values, directions)[0].flatten(1)
        classes = _classes_at(ids[:, ::scale, ::scale], feature)
        every = torch.arange(self.class_count, device=classes.device)
        counts = (classes == every.unsqueeze(1)).sum(1)
        drawn = _draw(classes.argsort(stable=True), counts, self.samples)
        samples = projected[:, drawn].view(len(projected), self.class_count, self.samples)
        return samples.sort(-1).values, counts / counts.sum().clamp(min=LITTLE * len(classes))


@dataclass(frozen=True)
class _PatchBank:
    """One feature map of the source, its patches sorted by class."""

    source: FeatureMap  # float32
    output_classes: Tensor  # int64 [L]: the class of every patch of the output
    positions: Tensor  # int64 [M]: of the source's patches, class by class
    counts: Tensor  # int64 [K]: how many of each class there are

    @classmethod
    def of(cls, feature: FeatureMap, source_ids: Tensor, output_ids: Tensor, class_count: int) -> "_PatchBank":
        source_classes = _classes_at(source_ids, feature)
        source = FeatureMap(feature.values.float(), feature.patch)
        every = torch.arange(class_count, device=source_ids.device)
        counts = (source_classes == every.unsqueeze(1)).sum(1)  # a bincount would wait for the GPU
        return cls(source, _classes_at(output_ids, feature), source_classes.argsort(stable=True), counts)

    def loss(self, output: FeatureMap, output_patches: int, source_patches: int) -> Tensor:
        device = self.output_classes.device
        drawn = torch.randint(len(self.output_classes), (output_patches,), device=device)
        queries = _patches(FeatureMap(output.values.float(), output.patch), drawn)
        classes = self.output_classes[drawn]
        count = max(1, source_patches // len(self.counts) // GROUP) * GROUP
        candidates = _draw(self.positions, self.counts, count)
        keys = _patches(self.source, candidates)
        nearest = keys[_nearest(queries.detach(), classes, keys, len(self.counts))]
        distances = (queries.unsqueeze(1) - nearest).abs().mean((1, 2))
        # A class that the source lacks has no neighbors: its patches say nothing.
        known = self.counts[classes] > 0
        return (distances * known).sum() / known.sum().clamp(min=1)


def _draw(positions: Tensor, counts: Tensor, count: int) -> Tensor:
    """As many patches of each class, at random; any, of classes that there are none of.

    Args:
        positions: int64 ``[M]``, of all patches, class by class.
        counts: int64 ``[K]``, how many of each class there are.
        count: how many of each are drawn.

    Returns:
        Positions, int64 ``[K·count]``.
    """
    ends = counts.cumsum(0)
    random = torch.rand(len(counts), count, device=counts.device)
    within = (random * counts.unsqueeze(1)).long()
    drawn = (ends - counts).unsqueeze(1) + within
    return positions[drawn.clamp(max=len(positions) - 1).flatten()]


def _nearest(queries: Tensor, classes: Tensor, keys: Tensor, class_count: int) -> Tensor:
    """Which ``NEIGHBOURS`` of the keys of its class are nearest to each query.

    The nearest keys are all within as many groups, those whose own nearest key is nearest; a top-k over few groups,
    then over what is in them, costs a tenth of one over all keys.

    Args:
        queries: ``[Q, D]``.
        classes: int64 ``[Q]``, theirs.
        keys: ``[K·M, D]``, M of each class, class by class; M is a multiple of ``GROUP``.
        class_count: K.

    Returns:
        Indices of keys, int64 ``[Q, 5]``.
    """
    # Squared distances, but for the queries' own lengths, which decide nothing.
    distances = torch.addmm(keys.square().sum(1), queries, keys.T, alpha=-2)
    every = torch.arange(len(queries), device=queries.device)
    grouped = distances.view(len(queries), class_count, -1, GROUP)[every, classes]
    kept = min(NEIGHBOURS, grouped.shape[1])
    groups = grouped.amin(-1).topk(kept, largest=False).indices
    members = grouped.gather(1, groups.unsqueeze(-1).expand(-1, -1, GROUP)).flatten(1)
    best = members.topk(NEIGHBOURS, largest=False).indices
    within = groups.gather(1, best // GROUP) * GROUP + best % GROUP
    return classes.unsqueeze(1) * (len(keys) // class_count) + within


def _classes_at(class_ids: Tensor, feature: FeatureMap) -> Tensor:
    """The class at the center of every patch of a feature map, row by row: ``[L]``."""
    height, width = feature.values.shape[2:]
    resized = F.interpolate(class_ids.unsqueeze(1).float(), size=(height, width), mode="nearest")[0, 0]
    margin = feature.patch // 2
    return resized[margin : height - margin, margin : width - margin].reshape(-1).long()


def _patches(feature: FeatureMap, indices: Tensor) -> Tensor:
    """The patches at ``[M]`` positions as rows ``[M, C·patch²]``."""
    values, patch = feature.values[0], feature.patch
    columns = values.shape[2] - patch + 1
    top, left = indices // columns, indices % columns
    span = torch.arange(patch, device=values.device)
    rows = (top.unsqueeze(1) + span).unsqueeze(2)
    cols = (left.unsqueeze(1) + span).unsqueeze(1)
    return values[:, rows, cols].permute(1, 0, 2, 3).reshape(len(indices), -1)

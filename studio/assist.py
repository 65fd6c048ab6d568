"""Help with labelling: from a few strokes to a class for every pixel, and regions that a brush takes whole."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.filters import gaussian, sobel
from skimage.segmentation import slic, watershed
from sklearn.ensemble import ExtraTreesClassifier

from semia.core.errors import InputError
from semia.core.images import RGB
from semia.core.labels import ClassIds

NO_STROKE = 255
"""In a map of strokes: the pixels without one."""

MIN_REGIONS, MAX_REGIONS = 50, 8000
ALIKE_REGIONS = 2000

TREES = 60
STROKE_SAMPLES = 4000
"""Pixels of strokes that the trees learn from, at most: more take longer and teach little."""

SMOOTHING_ROUNDS = 3


class PhotographAssistant:
    """Knows one photograph; what takes long is computed once, when it is first needed."""

    def __init__(self, photograph: RGB) -> None:
        self.photograph = photograph
        self._lab = rgb2lab(photograph).astype(np.float32)
        self._gradient: NDArray[np.float32] | None = None
        self._features: NDArray[np.float32] | None = None
        self._regions: dict[int, NDArray[np.int32]] = {}

    def fill(self, strokes: NDArray[np.uint8]) -> ClassIds:
        """Grow strokes until they meet, along the photograph's edges.

        Args:
            strokes: ``uint8[H, W]``, a class id on strokes and `NO_STROKE` elsewhere.

        Raises:
            InputError: if there is no stroke.
        """
        self._check(strokes)
        if self._gradient is None:
            smooth = gaussian(self._lab, 1.0, channel_axis=-1)
            edges = [sobel(smooth[..., channel]) for channel in range(3)]
            self._gradient = np.sqrt(np.square(edges).sum(axis=0)).astype(np.float32)
        markers = np.where(strokes == NO_STROKE, 0, strokes.astype(np.int32) + 1)
        grown: NDArray[np.int32] = watershed(self._gradient, markers)
        return (grown - 1).astype(np.uint8)

    def find_alike(self, strokes: NDArray[np.uint8]) -> ClassIds:
        """Give every region the class of the strokes that it resembles in color, texture and place.

        Args:
            strokes: as for `fill`.

        Raises:
            InputError: if there is no stroke.
        """
        self._check(strokes)
        regions = self.regions(ALIKE_REGIONS)
        features = self._pixel_features()
        marked = np.flatnonzero(strokes.reshape(-1) != NO_STROKE)
        if len(marked) > STROKE_SAMPLES:
            marked = np.random.default_rng(0).choice(marked, STROKE_SAMPLES, replace=False)
        classes = strokes.reshape(-1)[marked]
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=2, class_weight="balanced", random_state=0, n_jobs=1)
        trees.fit(features[marked], classes)
        numbers = regions.reshape(-1)
        sizes = np.bincount(numbers)[:, np.newaxis]
        sums = [np.bincount(numbers, features[:, column]) for column in range(features.shape[1])]
        likely = trees.predict_proba(np.stack(sums, axis=1) / np.maximum(sizes, 1))
        likely = self._smoothed(likely, regions)
        found: ClassIds = trees.classes_[likely.argmax(axis=1)][regions].astype(np.uint8)
        return np.where(strokes == NO_STROKE, found, strokes)

    def regions(self, count: int) -> NDArray[np.int32]:
        """About so many regions of similar color, ``int32[H, W]``, numbered from 0.

        Raises:
            InputError: if the count is beyond `MIN_REGIONS` and `MAX_REGIONS`.
        """
        if not MIN_REGIONS <= count <= MAX_REGIONS:
            raise InputError(f"there can be {MIN_REGIONS} to {MAX_REGIONS} regions, not {count}")
        if count not in self._regions:
            found = slic(self.photograph, count, compactness=10, sigma=1, start_label=0)
            self._regions[count] = np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int32)
        return self._regions[count]

    def _check(self, strokes: NDArray[np.uint8]) -> None:
        if strokes.shape != self.photograph.shape[:2]:
            raise InputError(f"the strokes are {strokes.shape}, the photograph {self.photograph.shape[:2]}")
        if (strokes == NO_STROKE).all():
            raise InputError("there is no stroke yet: draw one on each class")

    def _pixel_features(self) -> NDArray[np.float32]:
        """Of each pixel ``float32[H * W, F]``: its color, colors around it, how much they vary, and its place."""
        if self._features is None:
            height, width = self._lab.shape[:2]
            around = [gaussian(self._lab, sigma, channel_axis=-1) for sigma in (2, 6)]
            variance = [
                gaussian(self._lab[..., 0] ** 2, sigma) - mean[..., 0] ** 2
                for sigma, mean in zip((2, 6), around, strict=True)
            ]
            texture = [np.sqrt(np.maximum(each, 0)) for each in variance]
            scale = 100 / max(height, width)
            rows, columns = np.mgrid[:height, :width].astype(np.float32) * scale
            planes = [*np.moveaxis(self._lab, -1, 0), *(p for m in around for p in np.moveaxis(m, -1, 0)), *texture]
            stacked: NDArray[Any] = np.stack([*planes, rows, columns], axis=-1)
            self._features = stacked.reshape(height * width, -1).astype(np.float32)
        return self._features

    def _smoothed(self, likely: NDArray[np.float64], regions: NDArray[np.int32]) -> NDArray[np.float64]:
        """Let neighbouring regions of similar color agree on their classes; ``likely`` is ``float64[R, K]``."""
        count = len(likely)
        numbers = regions.reshape(-1)
        sizes = np.maximum(np.bincount(numbers, minlength=count), 1)
        flat = self._lab.reshape(-1, 3)
        colors = np.stack([np.bincount(numbers, flat[:, channel], count) / sizes for channel in range(3)], axis=1)
        pairs = [(regions[1:], regions[:-1]), (regions[:, 1:], regions[:, :-1])]
        touching = np.concatenate([np.stack((a[a != b], b[a != b]), axis=1) for a, b in pairs])
        touching = np.unique(np.sort(touching, axis=1), axis=0)
        first, second = np.concatenate([touching, touching[:, ::-1]]).T
        alike = np.exp(-np.linalg.norm(colors[first] - colors[second], axis=1) / 8)
        for _ in range(SMOOTHING_ROUNDS):
            total, weight = likely.copy(), np.ones(count)
            np.add.at(total, first, alike[:, np.newaxis] * likely[second])
            np.add.at(weight, first, alike)
            likely = total / weight[:, np.newaxis]
        return likely

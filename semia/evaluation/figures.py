"""Six figures for a picture made of a target layout, from nothing but pictures and their classes.

align       are classes recognizable where the layout has them? Mean intersection over union of the layout and the
            classes that a random forest, taught on the photograph's own texture, sees in the picture
swd         do patches of a class look alike as a whole? Sliced Wasserstein distance (Rabin et al. 2011) between
            the picture's patches and the photograph's, mean over two scales, times 1000
coherence   does each patch of the picture occur in the photograph? Mean distance to the nearest one of its class
complete    does each patch of the photograph occur in the picture? The same the other way round
            (both terms: bidirectional similarity, Simakov et al. 2008)
sharp       does a class have as much gradient as in the photograph? Absolute log of the ratio
seams       do the pieces fit together? How far the picture's worst patches are from any of the photograph, at three
            sizes and whatever their class; `semia.evaluation.seams` measures it

Those from swd to sharp are means over classes, weighted by the area the layout gives them. All six depend on the
pictures' scale: figures are comparable at one width only. They look at pictures alone, so they judge any generator;
everything random is drawn from one seeded stream in a fixed order, so that a picture's figures are the same every time.

They do not measure what a picture shows: a generator that copies pixels has good sharp and coherence, whatever the
pieces form together. seams measures some of it; look at the pictures.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import NearestNeighbors

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.evaluation.seams import PATCH_SIDE, SeamMeasure
from semia.training.evaluation_file import Figures

Floats = NDArray[np.float64]

SEED = 0
JUDGED_SHARE = 0.005  # classes with less of the layout are not judged; with less of the photograph, not by patches
PALETTE_SHARE = 0.004  # a class with less of the photograph is taken for the class of the nearest color
PALETTE_SEPARATION = 90  # so is one whose color is no farther (sum over channels) from that of a larger class
MIN_PATCHES = 50  # a class with fewer patches, in either picture, has no patch figures
SWD_PATCHES = 4000  # patches of each picture, at most, whose distributions are compared
DIRECTIONS = 256  # along which they are
QUANTILES = 200  # by which they are
REFERENCE_PATCHES = 20_000  # patches, at most, among which the nearest is looked for
QUERY_PATCHES = 2000  # patches, at most, whose nearest is looked for
FOREST_PIXELS = 6000
FOREST_TREES = 60
FOREST_DEPTH = 14
FLOOR = 1e-4  # gradient added before the ratio is taken: flat color beside flat color is no difference


class LabeledPicture(NamedTuple):
    """A picture and the class of each of its pixels."""

    picture: RGB  # uint8[H, W, 3]
    labels: ClassIds  # uint8[H, W]

    def halved(self) -> "LabeledPicture":
        """Half the size, odd sides rounded up: pixels are averaged, labels are picked."""
        return LabeledPicture(np.asarray(Image.fromarray(self.picture).reduce(2)), self.labels[::2, ::2])

    def share(self, class_id: int) -> float:
        """The share of the pixels that a class has, 0 to 1."""
        return float((self.labels == class_id).mean())


class PatchFigures(NamedTuple):
    """What one class's patches say; see the top of this module."""

    swd: float
    coherence: float
    complete: float
    sharp: float


class PictureMeasure:
    """Measures pictures against one photograph; what depends on the photograph alone is computed once."""

    def __init__(self, photograph: RGB, labels: ClassIds, palette: Palette) -> None:
        """Learn the texture of a photograph, ``uint8[H, W, 3]``, and its classes, ``uint8[H, W]``.

        Each side is at least twice `PATCH_SIDE`.
        """
        self._judged_class = judged_classes(labels, palette)
        self._source = LabeledPicture(photograph, self._judged_class[labels])
        self._seams = SeamMeasure(photograph)
        self._stream = np.random.default_rng(SEED)
        pixels = self._stream.choice(labels.size, min(FOREST_PIXELS, labels.size), replace=False)
        forest = RandomForestClassifier(FOREST_TREES, max_depth=FOREST_DEPTH, n_jobs=1, random_state=SEED)
        self._forest = forest.fit(_texture(photograph)[pixels], self._source.labels.ravel()[pixels])

    def figures(self, picture: RGB, layout: ClassIds) -> Figures:
        """The figures of a picture ``uint8[H, W, 3]`` that was made of a layout ``uint8[H, W]``."""
        output = LabeledPicture(picture, self._judged_class[layout])
        present = [int(class_id) for class_id in np.unique(output.labels)]
        judged = [class_id for class_id in present if output.share(class_id) >= JUDGED_SHARE]
        # Each picture meets the stream as the forest left it: figures do not depend on what was judged before.
        stream = np.random.default_rng()
        stream.bit_generator.state = self._stream.bit_generator.state
        by_class = {
            class_id: figures
            for class_id in judged
            if self._source.share(class_id) >= JUDGED_SHARE
            and (figures := patch_figures(self._source, output, class_id, stream)) is not None
        }
        means: dict[str, float | None] = dict.fromkeys(PatchFigures._fields)
        if by_class:
            shares = [output.share(class_id) for class_id in by_class]
            averages = np.average(list(by_class.values()), axis=0, weights=shares).tolist()
            means |= zip(PatchFigures._fields, averages, strict=True)
        return Figures(align=self._alignment(output), seams=self._seams.measure(picture), **means)

    def _alignment(self, output: LabeledPicture) -> float | None:
        seen = self._forest.predict(_texture(output.picture)).reshape(output.labels.shape)
        overlaps = []
        for class_id in np.unique(output.labels):
            asked, found = output.labels == class_id, seen == class_id
            if asked.mean() > JUDGED_SHARE:
                overlaps.append(np.count_nonzero(asked & found) / np.count_nonzero(asked | found))
        return float(np.mean(overlaps)) if overlaps else None


def judged_classes(labels: ClassIds, palette: Palette) -> NDArray[np.uint8]:
    """Which class each of the palette's is judged as, ``uint8[K]``: an index into the classes by area.

    `PALETTE_SHARE` and `PALETTE_SEPARATION` say which classes are taken for others.
    """
    areas = np.bincount(labels.ravel(), minlength=len(palette))
    by_area = sorted(range(len(palette)), key=lambda class_id: (-areas[class_id], palette.colors[class_id]))
    colors = palette.array.astype(np.int64)
    kept = by_area[:1]
    for class_id in by_area[1:]:
        separation = np.abs(colors[kept] - colors[class_id]).sum(axis=1).min()
        if areas[class_id] >= PALETTE_SHARE * labels.size and separation > PALETTE_SEPARATION:
            kept.append(class_id)
    distances = ((colors[:, np.newaxis] - colors[kept]) ** 2).sum(axis=-1)
    nearest: NDArray[np.uint8] = distances.argmin(axis=1).astype(np.uint8)
    return nearest


def patch_figures(
    source: LabeledPicture, output: LabeledPicture, class_id: int, stream: np.random.Generator
) -> PatchFigures | None:
    """Compare one class's texture in two pictures; None where either has too few patches of it."""
    distances = []
    for scale in ((source, output), (source.halved(), output.halved())):
        patches = _draw_pair(*scale, class_id, (SWD_PATCHES, SWD_PATCHES), stream)
        if patches is not None:
            distances.append(_sliced_wasserstein(*patches, stream))
    searched_source = _draw_pair(source, output, class_id, (REFERENCE_PATCHES, QUERY_PATCHES), stream)
    if searched_source is None:
        return None
    searched_output = _draw_pair(source, output, class_id, (QUERY_PATCHES, REFERENCE_PATCHES), stream)
    assert searched_output is not None, "the same classes have as many patches as before"
    return PatchFigures(
        swd=1000 * float(np.mean(distances)),
        coherence=_mean_distance(searched_source[1], searched_source[0]),
        complete=_mean_distance(searched_output[0], searched_output[1]),
        sharp=_sharpness_change(source, output, class_id),
    )


def _draw_pair(
    source: LabeledPicture, output: LabeledPicture, class_id: int, most: tuple[int, int], stream: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """Random patches of a class from each of two pictures, at most so many; None where either has too few."""
    first = _draw_patches(source, class_id, most[0], stream)
    second = _draw_patches(output, class_id, most[1], stream)
    return None if first is None or second is None else (first, second)


def _draw_patches(labeled: LabeledPicture, class_id: int, most: int, stream: np.random.Generator) -> Floats | None:
    """Patches whose center has a class, as ``float64[N, 147]`` in [0, 1]."""
    margin = PATCH_SIDE // 2
    places = np.argwhere(labeled.labels[margin:-margin, margin:-margin] == class_id)
    if len(places) < MIN_PATCHES:
        return None
    rows, columns = places[stream.choice(len(places), min(most, len(places)), replace=False)].T
    channels_first = labeled.picture.transpose(2, 0, 1)
    windows = np.lib.stride_tricks.sliding_window_view(channels_first, (3, PATCH_SIDE, PATCH_SIDE))
    patches: Floats = windows[0, rows, columns].reshape(len(rows), -1) / 255.0
    return patches


def _sliced_wasserstein(first: Floats, second: Floats, stream: np.random.Generator) -> float:
    """Mean distance of two sets of patches ``[N, D]`` and ``[M, D]`` along random directions."""
    directions = stream.normal(size=(first.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    levels = np.linspace(0, 1, QUANTILES)
    gaps = np.quantile(first @ directions, levels, axis=0) - np.quantile(second @ directions, levels, axis=0)
    return float(np.abs(gaps).mean())


def _mean_distance(asked: Floats, searched: Floats) -> float:
    """Mean Euclidean distance of each patch to the nearest of those searched."""
    # Brute force: in 147 dimensions, a tree is slower.
    neighbors = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(searched)
    return float(neighbors.kneighbors(asked)[0].mean())


def _sharpness_change(source: LabeledPicture, output: LabeledPicture, class_id: int) -> float:
    energies = []
    for one in (source, output):
        down, right = np.gradient(one.picture.mean(axis=-1) / 255.0)  # of the brightness
        energies.append(np.hypot(down, right)[one.labels == class_id].mean() + FLOOR)
    return float(abs(np.log(energies[1] / energies[0])))


def _texture(picture: RGB) -> NDArray[np.float32]:
    """Color, edges and curvature at several scales around each pixel, ``float32[H * W, F]``."""
    features = multiscale_basic_features(picture / 255.0, channel_axis=-1, sigma_min=1, sigma_max=8)
    texture: NDArray[np.float32] = features.reshape(-1, features.shape[-1])
    return texture

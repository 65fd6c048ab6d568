"""The figure is its definition's, sees what it is meant to see, and its memory does not grow with the pictures."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from semia.core.images import RGB
from semia.evaluation import seams
from semia.evaluation.seams import SeamMeasure


def noise(height: int, width: int, seed: int = 0) -> RGB:
    """Soft enough to look different at every size, hard enough that no two patches are equal."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def by_definition(photograph: RGB, picture: RGB, sizes: int = 3) -> float:
    """Written down as `semia.evaluation.seams` says it, in double precision, patch by patch; of the largest sizes."""

    def patches(levels: RGB, step: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        tops, lefts = (range(0, side - 6, step) for side in levels.shape[:2])
        return np.array([levels[top : top + 7, left : left + 7].ravel() / 255 for top in tops for left in lefts])

    percentiles = []
    for reduction in (1, 2, 4)[:sizes]:
        known, asked = (np.asarray(Image.fromarray(each).reduce(reduction)) for each in (photograph, picture))
        both = np.concatenate([patches(known, 1), patches(np.fliplr(known), 1)])
        neighbors = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(both)
        distances = neighbors.kneighbors(patches(asked, 2 if reduction == 1 else 1))[0] / np.sqrt(147)
        percentiles.append(np.percentile(distances, 95))
    return 1000 * float(np.mean(percentiles))


def measured(photograph: RGB, *pictures: RGB) -> list[float]:
    figures = [SeamMeasure(photograph).measure(picture) for picture in pictures]
    return [figure for figure in figures if figure is not None]


def test_the_figure_is_its_definitions() -> None:
    photograph, picture = noise(45, 62), noise(40, 71, seed=1)
    assert SeamMeasure(photograph).measure(picture) == pytest.approx(by_definition(photograph, picture), abs=1e-3)


def test_parts_of_a_time_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    photograph, picture = noise(45, 62), noise(45, 62, seed=1)
    whole = SeamMeasure(photograph).measure(picture)
    monkeypatch.setattr(seams, "QUERIES_AT_ONCE", 100)
    monkeypatch.setattr(seams, "REFERENCES_AT_ONCE", 1)  # a row is the least
    assert SeamMeasure(photograph).measure(picture) == whole


def test_the_photograph_and_its_mirror_image_have_no_seam() -> None:
    # Sides that four divides: the squares that are averaged are then the mirror image's too.
    photograph = noise(44, 64)
    itself, mirrored, upside_down = measured(photograph, photograph, photograph[:, ::-1], photograph[::-1])
    assert (itself, mirrored) == (0, 0)
    assert upside_down > 10


def test_the_greatest_difference_is_a_thousand() -> None:
    black, white = (np.full((28, 28, 3), level, dtype=np.uint8) for level in (0, 255))
    assert SeamMeasure(black).measure(white) == pytest.approx(1000)
    assert SeamMeasure(white).measure(black) == pytest.approx(1000)


def test_pieces_that_do_not_fit_are_noticed() -> None:
    """The same pixels: as they are, in two halves, and in squares of eight."""
    photograph = noise(64, 192)
    halves = np.roll(photograph, 96, axis=1)
    squares = photograph.reshape(8, 8, 24, 8, 3)[::-1, :, ::-1].reshape(photograph.shape)
    whole, once, often = measured(photograph, photograph, halves, squares)
    assert whole == 0
    assert 20 < once < 0.8 * often


@pytest.mark.parametrize(("height", "sizes"), [(25, 3), (24, 2), (13, 2), (12, 1), (7, 1)])
def test_a_size_without_a_whole_patch_is_left_out(height: int, sizes: int) -> None:
    flat, tall = noise(height, 40), noise(40, 40, seed=1)
    assert SeamMeasure(flat).measure(tall) == pytest.approx(by_definition(flat, tall, sizes), abs=1e-3)
    assert SeamMeasure(tall).measure(flat) == pytest.approx(by_definition(tall, flat, sizes), abs=1e-3)


def test_without_any_patch_there_is_no_figure() -> None:
    small, large = noise(6, 40), noise(40, 40)
    assert SeamMeasure(large).measure(small) is None
    assert SeamMeasure(small).measure(large) is None


def test_memory_does_not_grow_with_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without parts, the patches would take 7 MB and their products 130."""
    monkeypatch.setattr(seams, "QUERIES_AT_ONCE", 256)
    monkeypatch.setattr(seams, "REFERENCES_AT_ONCE", 256)
    photograph = noise(80, 160)
    measure = SeamMeasure(photograph)
    tracemalloc.start()
    measure.measure(photograph)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6

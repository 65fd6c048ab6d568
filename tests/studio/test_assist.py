"""From a few strokes to a class for every pixel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from semia.core.errors import InputError
from semia.studio.assist import NO_STROKE, PhotographAssistant


@pytest.fixture
def truth() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:90, :120]
    ids = np.zeros((90, 120), np.uint8)
    ids[rows > 55 + 6 * np.sin(columns / 9)] = 1
    for centre in (30, 85):
        ids[(rows - 35) ** 2 + (columns - centre) ** 2 < 16**2] = 2
    return ids


@pytest.fixture
def assistant(truth: NDArray[np.uint8]) -> PhotographAssistant:
    colors = np.array([[120, 170, 220], [70, 130, 60], [200, 90, 60]])
    noise = np.random.default_rng(0).integers(-25, 25, (*truth.shape, 3))
    return PhotographAssistant((colors[truth] + noise).clip(0, 255).astype(np.uint8))


def strokes_on(*places: tuple[int, int, int]) -> NDArray[np.uint8]:
    strokes = np.full((90, 120), NO_STROKE, np.uint8)
    for row, column, class_id in places:
        strokes[row : row + 3, column : column + 12] = class_id
    return strokes


def test_strokes_grow_to_the_edges(assistant: PhotographAssistant, truth: NDArray[np.uint8]) -> None:
    strokes = strokes_on((5, 50, 0), (80, 50, 1), (35, 25, 2), (35, 80, 2))
    filled = assistant.fill(strokes)
    assert (filled == truth).mean() > 0.97
    assert np.array_equal(filled[strokes != NO_STROKE], strokes[strokes != NO_STROKE])


def test_what_is_alike_is_found_elsewhere(assistant: PhotographAssistant, truth: NDArray[np.uint8]) -> None:
    strokes = strokes_on((5, 50, 0), (80, 50, 1), (35, 25, 2))  # nothing on the second disc
    found = assistant.find_alike(strokes)
    assert (found == truth).mean() > 0.93
    assert (found[30:40, 80:90] == 2).all()
    assert np.array_equal(found, assistant.find_alike(strokes)), "the same strokes give the same classes"


def test_regions_are_numbered_without_gaps_and_follow_edges(
    assistant: PhotographAssistant, truth: NDArray[np.uint8]
) -> None:
    coarse, fine = assistant.regions(60), assistant.regions(300)
    for regions in (coarse, fine):
        assert np.array_equal(np.unique(regions), np.arange(regions.max() + 1))
    assert coarse.max() < fine.max()
    votes = np.stack([np.bincount(fine.reshape(-1), (truth == class_id).reshape(-1)) for class_id in range(3)])
    assert votes.max(axis=0).sum() / truth.size > 0.96, "few regions have pixels of two classes"
    with pytest.raises(InputError, match="regions, not 7"):
        assistant.regions(7)


def test_strokes_that_cannot_be_used_are_refused(assistant: PhotographAssistant) -> None:
    with pytest.raises(InputError, match="no stroke yet"):
        assistant.fill(strokes_on())
    with pytest.raises(InputError, match="the photograph"):
        assistant.find_alike(np.zeros((4, 4), np.uint8))

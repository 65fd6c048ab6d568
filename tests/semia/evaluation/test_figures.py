"""The figures say what they are said to say, and are those of the project's measure."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.evaluation.figures import PictureMeasure, judged_classes
from semia.training.evaluation_file import Figures

HEIGHT, WIDTH = 60, 90
PALETTE = Palette(((0, 0, 255), (0, 255, 0), (255, 0, 0)))


def layout(box_left: int) -> ClassIds:
    """Sky over grass, with a box standing on it."""
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    ids[35:] = 1
    ids[15:45, box_left : box_left + 30] = 2
    return ids


def paint(ids: ClassIds, seed: int = 0) -> RGB:
    """A texture of its own for each class: soft noise, hard noise, stripes."""
    noise = np.random.default_rng(seed).integers(-40, 40, (*ids.shape, 3))
    stripes = np.where(np.arange(ids.shape[1]) % 6 < 3, 60, -60)[np.newaxis, :, np.newaxis] + noise // 4
    textures = np.stack([noise // 4, noise, stripes])
    base = np.array([[120, 180, 230], [60, 140, 50], [180, 110, 80]])
    offsets = np.take_along_axis(textures, ids[np.newaxis, ..., np.newaxis].astype(np.int64), axis=0)[0]
    picture: RGB = (base[ids] + offsets).clip(0, 255).astype(np.uint8)
    return picture


def blur(picture: RGB) -> RGB:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))


@pytest.fixture(scope="module")
def measure() -> PictureMeasure:
    return PictureMeasure(paint(layout(10)), layout(10), PALETTE)


def measured(figures: Figures) -> list[float]:
    values = list(figures.measured().values())
    assert len(values) == 6
    return values


@pytest.fixture(scope="module")
def judged(measure: PictureMeasure) -> dict[str, Figures]:
    """Of three pictures, all said to be made of ``layout(50)``."""
    painted, unmoved = paint(layout(50), seed=1), paint(layout(10), seed=1)
    pictures = {"painted": painted, "blurred": blur(painted), "unmoved": unmoved}
    return {name: measure.figures(picture, layout(50)) for name, picture in pictures.items()}


# What the project's measures, two programs of their own, printed for the very same pictures.
FROM_THE_YARDSTICK = {
    "painted": [0.993094, 9.738383, 0.833677, 0.842264, 0.080879, 130.8],
    "blurred": [0.982982, 46.581595, 1.080143, 1.117233, 1.426285, 159.4],
    "unmoved": [0.450942, 99.642337, 1.731454, 1.339259, 0.813603, 65.9],
}


@pytest.mark.parametrize("name", FROM_THE_YARDSTICK)
def test_the_figures_are_the_measures(judged: dict[str, Figures], name: str) -> None:
    # Other versions of NumPy, SciPy and scikit-learn may grow another tree of the forest's sixty.
    *others, seams = FROM_THE_YARDSTICK[name]
    assert measured(judged[name])[:5] == pytest.approx(others, abs=0.005)
    assert judged[name].seams == pytest.approx(seams, abs=0.05)


def test_the_photograph_itself_has_no_fault(measure: PictureMeasure) -> None:
    align, *faults = measured(measure.figures(paint(layout(10)), layout(10)))
    assert align > 0.95
    assert faults == pytest.approx([0, 0, 0, 0, 0], abs=1e-6)


def test_blur_is_noticed(judged: dict[str, Figures]) -> None:
    painted, blurred = judged["painted"].measured(), judged["blurred"].measured()
    assert painted["sharp"] < 0.1
    assert blurred["sharp"] > 0.5
    assert blurred["complete"] > 1.2 * painted["complete"]


def test_classes_in_the_wrong_place_are_noticed(judged: dict[str, Figures]) -> None:
    painted, unmoved = judged["painted"].measured(), judged["unmoved"].measured()
    assert painted["align"] > 0.9
    assert unmoved["align"] < 0.6
    assert unmoved["swd"] > 3 * painted["swd"]


def test_figures_do_not_depend_on_what_was_judged_before(measure: PictureMeasure, judged: dict[str, Figures]) -> None:
    assert measure.figures(paint(layout(50), seed=1), layout(50)) == judged["painted"]


def test_repeating_one_corner_is_coherent_but_not_complete() -> None:
    ids = np.zeros((40, 60), dtype=np.uint8)
    photograph = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    repeated = np.tile(photograph[:20, :20], (2, 3, 1))
    figures = PictureMeasure(photograph, ids, Palette(((0, 0, 0),))).figures(repeated, ids).measured()
    assert figures["coherence"] < figures["complete"] - 1


def test_a_layout_may_lack_a_class(measure: PictureMeasure) -> None:
    without_box = np.where(layout(10) == 2, 0, layout(10)).astype(np.uint8)
    assert measured(measure.figures(paint(without_box, 1), without_box))[0] > 0.9


def test_a_class_the_photograph_lacks_is_judged_as_its_nearest() -> None:
    ids = np.where(layout(10) == 2, 0, layout(10)).astype(np.uint8)
    assert judged_classes(ids, Palette(((0, 0, 255), (0, 255, 0), (90, 90, 255)))).tolist() == [0, 1, 0]


def test_what_cannot_be_measured_is_none_and_no_warning() -> None:
    """Sixteen squares of 7x7 pixels, of which fewer than 50 have a whole patch around them."""
    steps = np.arange(28) // 7
    ids = (4 * steps[:, np.newaxis] + steps).astype(np.uint8)
    palette = Palette(tuple((120 * (i % 3), 120 * (i // 3 % 3), 120 * (i // 9)) for i in range(16)))
    figures = PictureMeasure(palette.render(ids), ids, palette).figures(palette.render(ids), ids)
    assert figures.measured().keys() == {"align", "seams"}, "what needs no class's patches"
    assert dataclasses.astuple(figures)[1:5] == (None,) * 4


def test_classes_are_judged_in_the_order_of_their_area() -> None:
    assert judged_classes(layout(10), PALETTE).tolist() == [0, 1, 2]
    reversed_palette = Palette(PALETTE.colors[::-1])
    assert judged_classes((2 - layout(10)).astype(np.uint8), reversed_palette).tolist() == [2, 1, 0]


def test_a_speck_or_a_hardly_other_color_is_no_class_of_its_own() -> None:
    ids = layout(10)
    ids[0, :20] = 3  # 0.37 %
    assert judged_classes(ids, Palette((*PALETTE.colors, (200, 0, 60)))).tolist() == [0, 1, 2, 2]
    ids[0, :] = 3
    assert judged_classes(ids, Palette((*PALETTE.colors, (200, 0, 60)))).tolist() == [0, 1, 2, 3]
    assert judged_classes(ids, Palette((*PALETTE.colors, (200, 0, 30)))).tolist() == [0, 1, 2, 2]

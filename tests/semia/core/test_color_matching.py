"""Colors of label maps as people draw them: soft, drifted, compressed, or wrong."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from semia.core.color_matching import class_ids_from_picture
from semia.core.errors import LabelMapColorError
from semia.core.labels import (
    Canvas,
    class_ids_from_image,
)
from semia.core.palette import Palette

CANVAS = Canvas(height=188, width=284)
GREEN, ORANGE, CYAN = (0, 249, 0), (255, 147, 0), (0, 253, 255)
SCENE = Palette((GREEN, ORANGE, CYAN))
BETWEEN = Palette(((255, 0, 0), (0, 0, 255), (128, 0, 128)))
"""The third class is the blend of the first two."""

RGB = NDArray[np.uint8]
Spoil = Callable[[Image.Image], RGB]


def draw(palette: Palette, scale: int = 4) -> Image.Image:
    """Every class beside every other, drawn `scale` times too large for the canvas, with hard edges."""
    image = Image.new("RGB", (CANVAS.width * scale, CANVAS.height * scale), palette.colors[0])
    pen = ImageDraw.Draw(image)
    pen.ellipse([value * scale for value in (20.3, 30.6, 170.2, 160.7)], fill=palette.colors[1])
    third = palette.colors[-1]
    pen.polygon([(x * scale, y * scale) for x, y in ((150.4, 20.2), (270.3, 60.1), (180.8, 180.9))], fill=third)
    return image


def hard(image: Image.Image) -> RGB:
    return np.asarray(image.resize((CANVAS.width, CANVAS.height), Image.Resampling.NEAREST))


def soft(image: Image.Image) -> RGB:
    return np.asarray(image.resize((CANVAS.width, CANVAS.height), Image.Resampling.BOX))


def blurred(image: Image.Image) -> RGB:
    return np.asarray(Image.fromarray(soft(image)).filter(ImageFilter.GaussianBlur(1.5)))


def enlarged(image: Image.Image) -> RGB:
    half = image.resize((CANVAS.width // 2, CANVAS.height // 2), Image.Resampling.NEAREST)
    return np.asarray(half.resize((CANVAS.width, CANVAS.height), Image.Resampling.BICUBIC))


def jpeg(image: Image.Image, quality: int = 75) -> RGB:
    buffer = io.BytesIO()
    Image.fromarray(soft(image)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as compressed:
        return np.asarray(compressed.convert("RGB"))


def border_distance(ids: NDArray[np.uint8], reach: int) -> NDArray[np.bool_]:
    """Pixels within ``reach`` of another class."""
    near = np.zeros(ids.shape, dtype=np.bool_)
    padded = np.pad(ids, reach, mode="edge")
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            near |= padded[down : down + ids.shape[0], right : right + ids.shape[1]] != ids
    return near


def fringe(ids: NDArray[np.uint8], truth: NDArray[np.uint8], class_id: int, reach: int = 8) -> int:
    """How many pixels have the class farther than ``reach`` from where it really is."""
    elsewhere = np.ones(truth.shape, dtype=np.bool_)
    for down, right in np.argwhere(truth == class_id):
        elsewhere[max(0, down - reach) : down + reach + 1, max(0, right - reach) : right + reach + 1] = False
    return int(np.count_nonzero(elsewhere & (ids == class_id)))


@pytest.mark.parametrize("palette", [SCENE, BETWEEN], ids=["scene", "between"])
def test_clean_maps_are_read_exactly(palette: Palette) -> None:
    picture = hard(draw(palette))
    np.testing.assert_array_equal(palette.render(class_ids_from_picture(picture, palette)), picture)


@pytest.mark.parametrize("palette", [SCENE, BETWEEN], ids=["scene", "between"])
@pytest.mark.parametrize("spoil", [soft, blurred, enlarged, jpeg])
def test_dirty_maps_are_read_right_but_for_the_very_border(palette: Palette, spoil: Spoil) -> None:
    truth = class_ids_from_picture(hard(draw(palette)), palette)
    ids = class_ids_from_picture(spoil(draw(palette)), palette)
    assert ids.dtype == np.uint8
    assert ids.shape == CANVAS
    assert not (ids != truth)[~border_distance(truth, 3)].any()
    assert (ids != truth).mean() < 0.01


@pytest.mark.parametrize("spoil", [soft, blurred, enlarged, jpeg])
@pytest.mark.parametrize(
    "palette",
    [BETWEEN, Palette(((0, 0, 0), (255, 255, 255), (127, 127, 127))), Palette((GREEN, ORANGE, (120, 190, 20)))],
    ids=["purple", "gray", "olive"],
)
def test_a_blend_of_two_classes_never_becomes_a_third(palette: Palette, spoil: Spoil) -> None:
    truth = class_ids_from_picture(hard(draw(palette)), palette)
    ids = class_ids_from_picture(spoil(draw(palette)), palette)
    naive = np.linalg.norm(spoil(draw(palette))[:, :, None] - palette.array.astype(float), axis=-1).argmin(axis=-1)
    assert fringe(naive.astype(np.uint8), truth, 2) > 50, "the case must be a hard one"
    assert fringe(ids, truth, 2) == 0


def test_a_blended_pixel_takes_the_more_similar_neighbor() -> None:
    picture = np.zeros((20, 30, 3), dtype=np.uint8)
    picture[:, :15], picture[:, 15:] = (255, 0, 0), (0, 0, 255)
    picture[:10, 15] = (150, 0, 105)  # rather red
    picture[10:, 14] = (105, 0, 150)  # rather blue
    ids = class_ids_from_picture(picture, BETWEEN)
    assert ids[:10].argmax(axis=1).tolist() == [16] * 10
    assert ids[10:].argmax(axis=1).tolist() == [14] * 10


def test_drifted_colors_are_their_classes() -> None:
    """As in the zebra's first target: another tool's green and orange."""
    truth = class_ids_from_picture(hard(draw(SCENE)), SCENE)
    drifted = Palette(((49, 255, 8), (253, 144, 10), (20, 240, 255)))
    np.testing.assert_array_equal(class_ids_from_picture(drifted.render(truth), SCENE), truth)
    ids = class_ids_from_picture(soft(draw(drifted)), SCENE)
    assert (ids != truth).mean() < 0.01


def test_noise_does_not_matter() -> None:
    truth = class_ids_from_picture(hard(draw(SCENE)), SCENE)
    noise = np.random.default_rng(0).normal(0, 8, (*CANVAS, 3))
    picture = np.clip(SCENE.render(truth) + noise, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(class_ids_from_picture(picture, SCENE), truth)


def test_transparent_borders_are_read_by_their_color() -> None:
    picture = Image.fromarray(soft(draw(SCENE))).convert("RGBA")
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, CANVAS.width, dtype=np.uint8), (CANVAS.height, 1)))
    expected = class_ids_from_image(picture, SCENE, CANVAS)
    picture.putalpha(alpha)
    np.testing.assert_array_equal(class_ids_from_image(picture, SCENE, CANVAS), expected)


def test_tiny_classes_and_thin_lines_survive() -> None:
    picture = np.full((*CANVAS, 3), GREEN, dtype=np.uint8)
    picture[100:105, 100:105] = CYAN  # 25 of 53392 pixels: 0.05 %
    picture[20, :] = ORANGE
    picture[:, 250] = ORANGE
    dirty = picture.copy()
    dirty[0, 0] = (10, 240, 10)  # one pixel that is not clean sends the map through every rule
    for given in (picture, dirty):
        ids = class_ids_from_picture(given, SCENE)
        assert np.count_nonzero(ids == 2) == 25
        assert (ids[20] == 1).all()
        assert (ids[:, 250] == 1).all()
        assert np.count_nonzero(ids == 1) == CANVAS.width + CANVAS.height - 1


def test_soft_thin_lines_survive() -> None:
    image = Image.new("RGB", (CANVAS.width * 4, CANVAS.height * 4), GREEN)
    ImageDraw.Draw(image).line((0, 40, CANVAS.width * 4, 600), fill=ORANGE, width=8)
    ids = class_ids_from_picture(soft(image), SCENE)
    assert (ids == 1).any(axis=0).all(), "no gap in the line"
    assert set(np.unique(ids)) == {0, 1}


def test_a_palette_of_one_class() -> None:
    palette = Palette((GREEN,))
    picture = np.full((*CANVAS, 3), GREEN, dtype=np.uint8)
    assert not class_ids_from_picture(picture, palette).any()
    picture[50:100, 50:100] = ORANGE
    with pytest.raises(LabelMapColorError, match="#FF9300"):
        class_ids_from_picture(picture, palette)


def test_near_colors_stay_apart() -> None:
    palette = Palette(((100, 100, 100), (120, 120, 120), (100, 100, 140)))
    truth = class_ids_from_picture(hard(draw(palette)), palette)
    ids = class_ids_from_picture(jpeg(draw(palette), quality=95), palette)
    assert (ids != truth).mean() < 0.02
    exact = palette.render(truth)
    exact[0, 0] += 1
    np.testing.assert_array_equal(class_ids_from_picture(exact, palette), truth)


def test_256_classes() -> None:
    levels = np.arange(256)
    palette = Palette(tuple((int(i % 8) * 36, int(i // 8 % 8) * 36, int(i // 64) * 85) for i in levels))
    truth = np.repeat(np.repeat(levels.reshape(16, 16), 12, axis=0), 18, axis=1).astype(np.uint8)
    picture = palette.render(truth)
    np.testing.assert_array_equal(class_ids_from_picture(picture, palette), truth)
    picture[0, 0] += 5
    np.testing.assert_array_equal(class_ids_from_picture(picture, palette), truth)


def test_a_foreign_area_is_refused_with_color_share_and_palette() -> None:
    picture = hard(draw(SCENE)).copy()
    picture[10:30, 10:110] = (200, 30, 220)  # 2000 of 53392 pixels; its border is not flat, so not counted
    palette = Palette(SCENE.colors, ("lawn", "house", "sky"))
    with pytest.raises(LabelMapColorError) as caught:
        class_ids_from_picture(picture, palette, "label map zebra.png")
    message = str(caught.value)
    assert "label map zebra.png" in message
    assert "#C81EDC, 3.3 %" in message
    assert "#00F900 lawn, #FF9300 house, #00FDFF sky" in message
    assert caught.value.exit_code == 2


def test_a_foreign_area_is_refused_however_compressed() -> None:
    image = draw(SCENE)
    ImageDraw.Draw(image).rectangle((40, 40, 440, 120), fill=(200, 30, 220))
    with pytest.raises(LabelMapColorError, match=r"about #C[0-9A-F][12][0-9A-F]D[0-9A-F]"):
        class_ids_from_picture(jpeg(image), SCENE)


def test_a_foreign_speck_takes_its_surroundings_class() -> None:
    picture = np.full((*CANVAS, 3), GREEN, dtype=np.uint8)
    picture[50:54, 50:54] = (200, 30, 220)
    assert not class_ids_from_picture(picture, SCENE).any()


def test_a_photograph_is_no_label_map() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (24, 36, 3), dtype=np.uint8))
    photograph = np.asarray(coarse.resize((CANVAS.width, CANVAS.height), Image.Resampling.BICUBIC))
    with pytest.raises(LabelMapColorError):
        class_ids_from_picture(photograph, Palette((CYAN, ORANGE)))


def test_a_gradient_is_no_label_map() -> None:
    ramp = np.linspace(0, 255, CANVAS.width)
    picture = np.zeros((*CANVAS, 3), dtype=np.uint8)
    picture[..., 0] = ramp
    picture[..., 2] = 255 - ramp
    with pytest.raises(LabelMapColorError):
        class_ids_from_picture(picture, Palette(((255, 0, 0), (0, 0, 255))))

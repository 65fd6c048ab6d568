"""Palettes: what counts as a class of a source label map, and how colors compare."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from semia.core.color_matching import class_ids_from_picture
from semia.core.errors import LabelMapError
from semia.core.palette import (
    MAX_CLASSES,
    MAX_DRIFT,
    Palette,
    color_from_hex,
    distance_to_blend,
    extract_palette,
    flat_area,
    hex_code,
    pack_colors,
)

GREEN, ORANGE, CYAN = (0, 249, 0), (255, 147, 0), (0, 253, 255)


def source(*, blur: float = 0.0, jpeg_quality: int | None = None) -> NDArray[np.uint8]:
    """A label map of much green, less orange, and a disc of cyan of 0.1 %, anti-aliased."""
    image = Image.new("RGB", (1136, 752), GREEN)
    pen = ImageDraw.Draw(image)
    pen.ellipse((100, 100, 600, 600), fill=ORANGE)
    pen.ellipse((900, 400, 936, 436), fill=CYAN)
    image = image.resize((568, 376), Image.Resampling.LANCZOS)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    if jpeg_quality is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=jpeg_quality)
        with Image.open(buffer) as compressed:
            image = compressed.convert("RGB")
    return np.asarray(image)


def classes(picture: NDArray[np.uint8]) -> Palette:
    return extract_palette(picture).palette


def test_the_classes_are_the_flat_colors_from_dark_to_light() -> None:
    assert classes(source()).colors == (GREEN, ORANGE, CYAN)
    assert classes(source(blur=1.5)).colors == (GREEN, ORANGE, CYAN)


@pytest.mark.parametrize("quality", [95, 75])
def test_a_compressed_source_has_the_same_classes(quality: int) -> None:
    palette = classes(source(jpeg_quality=quality))
    assert len(palette) == 3
    for color, expected in zip(palette.colors, (GREEN, ORANGE, CYAN), strict=True):
        assert np.abs(np.subtract(color, expected)).max() <= 6


def test_noise_across_a_box_border_does_not_split_a_class_out_of_existence() -> None:
    """Every channel of the small class flips between two boxes of 8 levels: eight boxes share its votes."""
    rng = np.random.default_rng(0)
    picture = np.full((376, 568, 3), GREEN, dtype=np.uint8)
    picture[100:110, 100:110] = (128, 64, 200) - rng.integers(0, 2, (10, 10, 3), dtype=np.uint8)
    palette = classes(picture)
    assert len(palette) == 2
    assert np.abs(np.subtract(palette.colors[0], (128, 64, 200))).max() <= 1


def compressed(picture: NDArray[np.uint8], quality: int = 90) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def test_tiny_classes_count_and_specks_do_not() -> None:
    picture = np.full((376, 568, 3), GREEN, dtype=np.uint8)
    picture[100:110, 100:111] = CYAN  # 110 of 213568 pixels: 0.05 %
    picture[200:204, 200:202] = ORANGE  # 8 pixels
    found = extract_palette(picture)
    assert found.palette.colors == (GREEN, CYAN)
    assert found.notes == (
        "8 pixels of #FF9300 are too few for a class, or the soft border of two: they go to the classes beside them",
    )


def test_small_areas_of_a_compressed_map_are_named() -> None:
    picture = np.full((376, 568, 3), GREEN, dtype=np.uint8)
    picture[100:120, 100:120] = CYAN
    picture[200:208, 200:208] = ORANGE
    found = extract_palette(compressed(picture, 95))
    assert len(found.palette) == 2
    assert len(found.notes) == 1
    assert "too small to be a class" in found.notes[0]


def test_similar_colors_of_an_exact_map_are_classes_and_of_a_compressed_one_are_not() -> None:
    picture = np.full((100, 100, 3), (100, 100, 100), dtype=np.uint8)
    picture[:30] = (110, 110, 110)
    picture[70:] = (140, 140, 140)
    assert len(classes(picture)) == 3
    rng = np.random.default_rng(0)
    noisy = picture + rng.integers(0, 3, picture.shape, dtype=np.uint8)
    assert len(classes(noisy)) == 2


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 64), height=st.integers(40, 120))
@settings(max_examples=150, deadline=None)
def test_exact_colors_are_read_back_to_the_same_ids(seed: int, count: int, height: int) -> None:
    """Any colors, in areas of any size from 9 pixels on, wherever they lie."""
    rng = np.random.default_rng(seed)
    colors = rng.choice(2**24, count, replace=False).astype(np.uint32)
    palette = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=-1).astype(np.uint8)
    ids = np.zeros((height, 97), dtype=np.uint8)
    cells = rng.permutation((height // 5) * 19)[: count - 1]
    for class_id, cell in enumerate(cells, start=1):
        top, left = cell // 19 * 5, cell % 19 * 5
        bottom = top + int(rng.integers(3, 6))
        ids[top:bottom, left : left + 3] = class_id
    picture = palette[ids]
    found = extract_palette(picture)
    assert found.notes == ()
    read = class_ids_from_picture(picture, found.palette)
    assert np.array_equal(found.palette.array[read], picture)
    assert len(found.palette) == len(np.unique(ids))


def test_near_colors_a_pole_and_ids_are_classes() -> None:
    ids = np.zeros((60, 80), dtype=np.uint8)
    ids[30:] = 1
    ids[10:50, 40] = 2
    ids[5:10, 5:10] = 3
    for colors in ([(0,) * 3, (1,) * 3, (2,) * 3, (3,) * 3], [(9, 9, 9), (255, 41, 10), (255, 31, 0), (90, 80, 0)]):
        picture = np.array(colors, np.uint8)[ids]
        found = extract_palette(picture)
        assert set(found.palette.colors) == set(colors)
        assert np.array_equal(found.palette.array[class_ids_from_picture(picture, found.palette)], picture)


def test_the_soft_border_of_two_classes_is_no_third() -> None:
    """A straight edge half a pixel off the grid: a whole line of one blend."""
    picture = np.full((2000, 60, 3), GREEN, dtype=np.uint8)
    picture[1000:] = (0, 0, 200)
    picture[1000] = (0, 124, 100)
    found = extract_palette(picture)
    assert found.palette.colors == ((0, 0, 200), GREEN)
    assert "the soft border of two" in found.notes[0]


def test_void_pixels_are_no_class() -> None:
    picture = np.full((40, 40, 3), GREEN, dtype=np.uint8)
    picture[25:] = ORANGE
    picture[18:22] = CYAN
    assert extract_palette(picture, void=(picture == CYAN).all(axis=-1)).palette.colors == (GREEN, ORANGE)
    with pytest.raises(LabelMapError, match="the whole label map is void"):
        extract_palette(picture, void=np.ones((40, 40), np.bool_))


def test_small_and_single_colored_maps() -> None:
    assert classes(np.full((1, 1, 3), 7, dtype=np.uint8)).colors == ((7, 7, 7),)
    assert classes(np.full((40, 3, 3), ORANGE, dtype=np.uint8)).colors == (ORANGE,)


def test_a_map_without_flat_colors_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(LabelMapError, match="no area of one flat color"):
        classes(noise)


def test_a_map_of_too_many_colors_is_refused() -> None:
    levels = np.stack(np.meshgrid(*[np.arange(0, 256, 36)] * 3), axis=-1).reshape(-1, 3).astype(np.uint8)
    picture = np.repeat(np.repeat(levels.reshape(16, 32, 3), 8, axis=0), 8, axis=1)
    with pytest.raises(LabelMapError, match=f"512 colors; at most {MAX_CLASSES}"):
        classes(picture)


def test_flat_area_excludes_borders() -> None:
    picture = np.full((9, 12, 3), GREEN, dtype=np.uint8)
    picture[:, 6:] = ORANGE
    flat = flat_area(picture)
    assert flat.shape == (9, 12)
    assert flat.all(axis=0).tolist() == [True] * 5 + [False] * 2 + [True] * 5


def test_impossible_palettes_are_refused() -> None:
    with pytest.raises(LabelMapError, match="1 to 256"):
        Palette(())
    with pytest.raises(LabelMapError, match="1 to 256"):
        Palette(tuple((level, level, other) for level in range(200) for other in range(2)))
    with pytest.raises(LabelMapError, match="must differ"):
        Palette((GREEN, GREEN))
    with pytest.raises(LabelMapError, match="3 names"):
        Palette((GREEN, ORANGE), ("lawn", "house", "sky"))


def test_a_palette_shows_its_colors_and_names() -> None:
    assert str(Palette((GREEN, ORANGE))) == "#00F900, #FF9300"
    assert str(Palette((GREEN, ORANGE), ("lawn", "house"))) == "#00F900 lawn, #FF9300 house"
    assert Palette.from_hex(["#00F900", "ff9300"]).colors == (GREEN, ORANGE)


def test_the_tolerance_never_exceeds_the_closest_classes() -> None:
    assert Palette((GREEN,)).tolerance == MAX_DRIFT
    assert Palette((GREEN, ORANGE)).tolerance == MAX_DRIFT
    assert Palette((GREEN, ORANGE, (0, 209, 0))).tolerance == 40.0


def test_confusable_pairs_are_those_with_a_class_between() -> None:
    assert Palette((GREEN, ORANGE, CYAN)).confusable_pairs == ()
    assert Palette(((255, 0, 0), (0, 255, 0), (0, 0, 255))).confusable_pairs == ()
    assert Palette((GREEN, ORANGE)).confusable_pairs == ()
    assert Palette((GREEN,)).confusable_pairs == ()
    assert (0, 1) in Palette(((255, 0, 0), (0, 0, 255), (128, 0, 128))).confusable_pairs


def test_distance_to_blend() -> None:
    black, white = np.array((0, 0, 0), dtype=np.uint8), np.array((200, 0, 0), dtype=np.uint8)
    colors = np.array([(0, 0, 0), (100, 30, 40), (200, 0, 0), (230, 40, 0)], dtype=np.uint8)
    np.testing.assert_allclose(distance_to_blend(colors, black, white), [0, 50, 0, 50])


def test_packed_colors_differ_as_colors_do() -> None:
    colors = np.random.default_rng(0).integers(0, 4, (500, 3), dtype=np.uint8)
    assert len(np.unique(pack_colors(colors))) == len(np.unique(colors, axis=0))


@pytest.mark.parametrize(
    "code", ["", "#12345", "#1234567", "red", "#GG0000", "12 34 ", "##1234", "#\uff11\uff12\uff13\uff14\uff15\uff16"]
)
def test_colors_are_written_in_one_way(code: str) -> None:
    with pytest.raises(LabelMapError, match="write #RRGGBB"):
        color_from_hex(code)


def test_hex_codes_go_both_ways() -> None:
    assert hex_code(color_from_hex("#0a0B0c")) == "#0A0B0C"


def test_names_are_given_by_color() -> None:
    palette = Palette((GREEN, ORANGE))
    named = palette.with_names({"house": "#FF9300", "lawn": "#31FF08"})  # a drifted green
    assert named == Palette((ORANGE, GREEN), ("house", "lawn")), "in the order of the names"
    several_photographs = {"lawn": "#00F900", "sky": "#0000FF", "house": "#FF9300"}
    assert palette.with_names(several_photographs) == Palette((GREEN, ORANGE), ("lawn", "house"))
    with pytest.raises(LabelMapError, match=r"'lawn' and 'meadow' both"):
        palette.with_names({"lawn": "#00F900", "meadow": "#01F900"})
    with pytest.raises(LabelMapError, match="no class name is given for #FF9300"):
        palette.with_names({"lawn": "#00F900"})

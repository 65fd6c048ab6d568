"""Palettes: what counts as a class of a source label map, and how colours compare."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from semia.core.errors import LabelMapError
from semia.core.palette import (
    MAX_CLASSES,
    MAX_DRIFT,
    Palette,
    colour_from_hex,
    distance_to_blend,
    extract_palette,
    flat_area,
    hex_code,
    pack_colours,
    read_class_names,
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


def test_the_classes_are_the_flat_colours_by_frequency() -> None:
    assert extract_palette(source()).colours == (GREEN, ORANGE, CYAN)
    assert extract_palette(source(blur=1.5)).colours == (GREEN, ORANGE, CYAN)


@pytest.mark.parametrize("quality", [95, 75])
def test_a_compressed_source_has_the_same_classes(quality: int) -> None:
    palette = extract_palette(source(jpeg_quality=quality))
    assert len(palette) == 3
    for colour, expected in zip(palette.colours, (GREEN, ORANGE, CYAN), strict=True):
        assert np.abs(np.subtract(colour, expected)).max() <= 6


def test_noise_across_a_box_border_does_not_split_a_class_out_of_existence() -> None:
    """Every channel of the small class flips between two boxes of 8 levels: eight boxes share its votes."""
    rng = np.random.default_rng(0)
    picture = np.full((376, 568, 3), GREEN, dtype=np.uint8)
    picture[100:110, 100:110] = (128, 64, 200) - rng.integers(0, 2, (10, 10, 3), dtype=np.uint8)
    palette = extract_palette(picture)
    assert len(palette) == 2
    assert np.abs(np.subtract(palette.colours[1], (128, 64, 200))).max() <= 1


def test_tiny_classes_count_and_specks_do_not() -> None:
    picture = np.full((376, 568, 3), GREEN, dtype=np.uint8)
    picture[100:110, 100:111] = CYAN  # 110 of 213568 pixels: 0.05 %
    picture[200:204, 200:204] = ORANGE  # 0.007 %
    assert extract_palette(picture).colours == (GREEN, CYAN)


def test_similar_colours_are_one_class() -> None:
    picture = np.full((100, 100, 3), (100, 100, 100), dtype=np.uint8)
    picture[:30] = (110, 110, 110)
    picture[70:] = (140, 140, 140)
    assert len(extract_palette(picture)) == 2


def test_small_and_single_coloured_maps() -> None:
    assert extract_palette(np.full((1, 1, 3), 7, dtype=np.uint8)).colours == ((7, 7, 7),)
    assert extract_palette(np.full((40, 3, 3), ORANGE, dtype=np.uint8)).colours == (ORANGE,)


def test_a_map_without_flat_colours_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(LabelMapError, match="no area of one flat colour"):
        extract_palette(noise)


def test_a_map_of_too_many_colours_is_refused() -> None:
    levels = np.stack(np.meshgrid(*[np.arange(0, 256, 36)] * 3), axis=-1).reshape(-1, 3).astype(np.uint8)
    picture = np.repeat(np.repeat(levels.reshape(16, 32, 3), 8, axis=0), 8, axis=1)
    with pytest.raises(LabelMapError, match=f"512 colours; at most {MAX_CLASSES}"):
        extract_palette(picture)


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


def test_a_palette_shows_its_colours_and_names() -> None:
    assert str(Palette((GREEN, ORANGE))) == "#00F900, #FF9300"
    assert str(Palette((GREEN, ORANGE), ("lawn", "house"))) == "#00F900 lawn, #FF9300 house"
    assert Palette.from_hex(["#00F900", "ff9300"]).colours == (GREEN, ORANGE)


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
    colours = np.array([(0, 0, 0), (100, 30, 40), (200, 0, 0), (230, 40, 0)], dtype=np.uint8)
    np.testing.assert_allclose(distance_to_blend(colours, black, white), [0, 50, 0, 50])


def test_packed_colours_differ_as_colours_do() -> None:
    colours = np.random.default_rng(0).integers(0, 4, (500, 3), dtype=np.uint8)
    assert len(np.unique(pack_colours(colours))) == len(np.unique(colours, axis=0))


@pytest.mark.parametrize(
    "code", ["", "#12345", "#1234567", "red", "#GG0000", "12 34 ", "##1234", "#\uff11\uff12\uff13\uff14\uff15\uff16"]
)
def test_colours_are_written_in_one_way(code: str) -> None:
    with pytest.raises(LabelMapError, match="write #RRGGBB"):
        colour_from_hex(code)


def test_hex_codes_go_both_ways() -> None:
    assert hex_code(colour_from_hex("#0a0B0c")) == "#0A0B0C"


def test_names_are_given_by_colour() -> None:
    palette = Palette((GREEN, ORANGE))
    named = palette.with_names({"house": "#FF9300", "lawn": "#31FF08"})  # a drifted green
    assert named == Palette((GREEN, ORANGE), ("lawn", "house"))
    with pytest.raises(LabelMapError, match=r"'sky'.*#0000FF"):
        palette.with_names({"lawn": "#00F900", "sky": "#0000FF"})
    with pytest.raises(LabelMapError, match="'meadow'"):
        palette.with_names({"lawn": "#00F900", "meadow": "#01F900"})
    with pytest.raises(LabelMapError, match="no class name is given for #FF9300"):
        palette.with_names({"lawn": "#00F900"})


@pytest.mark.parametrize("content", ["[]", '{"sky": 3}', "no JSON", "\xff"])
def test_class_names_of_the_wrong_form_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "classes.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LabelMapError, match=r"classes\.json"):
        read_class_names(path)


def test_class_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"sky": "#66CCFF"}))
    assert read_class_names(path) == {"sky": "#66CCFF"}
    with pytest.raises(LabelMapError, match=r"absent\.json"):
        read_class_names(tmp_path / "absent.json")

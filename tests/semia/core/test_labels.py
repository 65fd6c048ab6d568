"""Reading label maps: of every size and mode, from files, or wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from semia.core.color_matching import class_ids_from_picture
from semia.core.errors import ImageError, LabelMapColorError, LabelMapError, LabelMapSizeError
from semia.core.labels import (
    class_ids_from_image,
    fit_to_canvas,
    read_class_ids,
    write_class_ids,
)
from semia.core.palette import Palette, extract_palette
from tests.semia.core.test_color_matching import BETWEEN, CANVAS, GREEN, SCENE, border_distance, draw, hard, jpeg


@pytest.mark.parametrize("size", [(284, 188), (283, 188), (284, 187), (285, 189), (142, 94), (568, 376), (567, 375)])
def test_sizes_that_mean_the_whole_canvas(size: tuple[int, int]) -> None:
    picture = draw(SCENE).resize(size, Image.Resampling.NEAREST)
    ids = class_ids_from_image(picture, SCENE, CANVAS)
    assert ids.shape == CANVAS
    truth = class_ids_from_picture(hard(draw(SCENE)), SCENE)
    assert not (ids != truth)[~border_distance(truth, 2)].any()


@pytest.mark.parametrize("size", [(188, 284), (284, 180), (200, 188), (1, 1), (2, 1), (1, 2), (3, 1), (0, 0), (284, 0)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(LabelMapSizeError, match=f"{size[0]}x{size[1]}, the canvas is 284x188"):
        fit_to_canvas(Image.new("RGB", size), CANVAS)


def test_fitting_knows_no_blends() -> None:
    fitted = fit_to_canvas(draw(SCENE, scale=2), CANVAS)
    assert set(map(tuple, np.unique(np.asarray(fitted).reshape(-1, 3), axis=0).tolist())) == set(SCENE.colors)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "HSV"])
def test_every_pillow_mode_is_read(mode: str) -> None:
    picture = Image.fromarray(hard(draw(SCENE)))
    truth = class_ids_from_image(picture, SCENE, CANVAS)
    np.testing.assert_array_equal(class_ids_from_image(picture.convert(mode), SCENE, CANVAS), truth)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "F"])
def test_gray_pillow_modes_are_read(mode: str) -> None:
    palette = Palette(((0, 0, 0), (255, 255, 255)))
    picture = Image.new("L", (CANVAS.width, CANVAS.height), 255)
    ImageDraw.Draw(picture).rectangle((0, 0, 100, 100), fill=0)
    ids = class_ids_from_image(picture.convert(mode), palette, CANVAS)
    assert np.count_nonzero(ids == 0) == 101 * 101


def test_written_class_ids_are_read_back_exactly(tmp_path: Path) -> None:
    ids = class_ids_from_picture(hard(draw(BETWEEN)), BETWEEN)
    path = tmp_path / "deep" / "ids.png"
    write_class_ids(path, ids, BETWEEN)
    np.testing.assert_array_equal(read_class_ids(path, BETWEEN, CANVAS), ids)
    with Image.open(path) as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), ids)
    with pytest.raises(ImageError):
        write_class_ids(tmp_path / "ids.jpg", ids, BETWEEN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def test_reading_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    Image.new("RGB", (20, 50), GREEN).save(path)
    with pytest.raises(LabelMapSizeError, match=r"map\.png is 20x50"):
        read_class_ids(path, SCENE, CANVAS)
    with pytest.raises(ImageError, match="no such picture"):
        read_class_ids(tmp_path / "absent.png", SCENE, CANVAS)


def test_the_palette_of_a_compressed_source_reads_a_clean_target() -> None:
    palette = extract_palette(jpeg(draw(SCENE))).palette
    assert len(palette) == 3
    clean = hard(draw(SCENE))
    ids = class_ids_from_picture(clean, palette)
    for class_id in range(3):
        assert len(np.unique(clean[ids == class_id], axis=0)) == 1


def test_errors_are_label_map_errors() -> None:
    assert issubclass(LabelMapSizeError, LabelMapError)
    assert issubclass(LabelMapColorError, LabelMapError)
    assert str(CANVAS) == "284x188"

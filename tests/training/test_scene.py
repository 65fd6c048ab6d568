import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semia.core.labels import Canvas
from semia.training.errors import SceneError
from semia.training.scene import Scene, load_scene, save_scene


def test_a_scene_folder_becomes_a_scene(scene_folder: Path, scene: Scene) -> None:
    loaded = load_scene(scene_folder)
    assert loaded.name == "tiny-scene"
    assert loaded.canvas == Canvas(44, 60)
    assert np.array_equal(loaded.image, scene.image)
    # Palettes are ordered by frequency, so ids may differ; the colours may not.
    assert np.array_equal(loaded.palette.render(loaded.labels), scene.palette.render(scene.labels))
    assert np.array_equal(loaded.palette.render(loaded.targets["moved"]), scene.palette.render(scene.targets["moved"]))


def test_class_names_are_read(scene_folder: Path) -> None:
    (scene_folder / "classes.json").write_text(json.dumps({"sky": "#0000FF", "grass": "#00FF00", "box": "#FF0000"}))
    palette = load_scene(scene_folder).palette
    assert dict(zip(palette.names, palette.hex_codes, strict=True))["box"] == "#FF0000"


def test_resize_scales_everything(scene_folder: Path) -> None:
    # 32 pixels is the least a side may have.
    loaded = load_scene(scene_folder, resize=1.5)
    assert loaded.canvas == Canvas(66, 90)
    assert loaded.image.shape == (66, 90, 3)
    assert loaded.targets["moved"].shape == (66, 90)


def test_max_side_only_shrinks(scene_folder: Path) -> None:
    assert load_scene(scene_folder, max_side=50).canvas == Canvas(37, 50)
    assert load_scene(scene_folder, max_side=500).canvas == Canvas(44, 60)


def test_a_label_map_one_pixel_off_is_fitted(scene_folder: Path) -> None:
    labels = Image.open(scene_folder / "label.png")
    labels.crop((0, 0, 60, 43)).save(scene_folder / "label.png")
    assert load_scene(scene_folder).labels.shape == (44, 60)


def test_a_saved_scene_is_read_back_exactly(tmp_path: Path, scene: Scene) -> None:
    save_scene(scene, tmp_path)
    loaded = load_scene(tmp_path, name=scene.name, palette=scene.palette)
    assert np.array_equal(loaded.image, scene.image)
    assert np.array_equal(loaded.labels, scene.labels)
    assert np.array_equal(loaded.targets["moved"], scene.targets["moved"])
    assert loaded.palette == scene.palette


@pytest.mark.parametrize("missing", ["img", "label"])
def test_a_missing_picture_is_named(scene_folder: Path, missing: str) -> None:
    (scene_folder / f"{missing}.png").unlink()
    with pytest.raises(SceneError, match=f"has no {missing} picture"):
        load_scene(scene_folder)


def test_a_broken_target_is_named(scene_folder: Path) -> None:
    (scene_folder / "cond" / "moved.png").write_bytes(b"no picture")
    with pytest.raises(SceneError, match=r"moved\.png"):
        load_scene(scene_folder)


def test_a_target_of_other_proportions_is_refused(scene_folder: Path) -> None:
    Image.new("RGB", (60, 60), (0, 0, 255)).save(scene_folder / "cond" / "square.png")
    with pytest.raises(SceneError, match=r"square\.png is 60x60"):
        load_scene(scene_folder)


def test_a_scene_too_small_is_refused(scene_folder: Path) -> None:
    with pytest.raises(SceneError, match="32 to 4096"):
        load_scene(scene_folder, resize=0.5)


@pytest.mark.parametrize("factor", [0.0, -1.0, 5.0])
def test_an_impossible_resize_is_refused(scene_folder: Path, factor: float) -> None:
    with pytest.raises(SceneError, match="--resize"):
        load_scene(scene_folder, resize=factor)


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no scene folder"):
        load_scene(tmp_path / "nowhere")


def test_ids_beyond_the_palette_are_refused(scene: Scene) -> None:
    with pytest.raises(SceneError, match="class id beyond"):
        dataclasses.replace(scene, labels=np.full_like(scene.labels, 3))

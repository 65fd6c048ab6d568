import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semia.core.errors import LabelMapError
from semia.core.labels import Canvas, ClassIds
from semia.training.errors import SceneError
from semia.training.scene import ClassNames, Scene, load_scene, read_class_names, save_scene


def test_a_scene_folder_becomes_a_scene(scene_folder: Path, scene: Scene) -> None:
    loaded = load_scene(scene_folder)
    assert loaded.name == "tiny-scene"
    assert loaded.canvas == Canvas(44, 60)
    assert np.array_equal(loaded.image, scene.image)
    # The files do not say which class is the first, so ids may differ; the colors may not.
    assert np.array_equal(loaded.palette.render(loaded.labels), scene.palette.render(scene.labels))
    assert np.array_equal(loaded.palette.render(loaded.targets["moved"]), scene.palette.render(scene.targets["moved"]))


def test_class_names_are_read(scene_folder: Path) -> None:
    (scene_folder / "classes.json").write_text(json.dumps({"sky": "#0000FF", "grass": "#00FF00", "box": "#FF0000"}))
    palette = load_scene(scene_folder).palette
    assert dict(zip(palette.names, palette.hex_codes, strict=True))["box"] == "#FF0000"


@pytest.mark.parametrize("content", ["[]", '{"sky": 3}', "no JSON", "\xff"])
def test_class_names_of_the_wrong_form_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "classes.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LabelMapError, match=r"classes\.json"):
        read_class_names(path)


def test_a_file_of_class_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"sky": "#66CCFF"}))
    assert read_class_names(path) == ClassNames({"sky": "#66CCFF"}, frozenset())
    path.write_text("\ufeff" + json.dumps({"sky": "#66CCFF", "#e0e0c0": None}), encoding="utf-8")
    assert read_class_names(path) == ClassNames({"sky": "#66CCFF"}, frozenset({(224, 224, 192)}))
    with pytest.raises(LabelMapError, match=r"absent\.json"):
        read_class_names(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"sky": "#0000FF", "sky": "#00FF00"}', "'sky' is there twice"),
        ("[" * 100_000, "recursion"),
        ('{"a\\nb": "#0000FF"}', r"'a\\nb' cannot name a class"),
        ('{" ": "#0000FF"}', "' ' cannot name a class"),
        ('{"\\u202e": "#0000FF"}', "cannot name a class: use letters that can be seen"),
    ],
    ids=["twice", "deep", "line", "blank", "backwards"],
)
def test_class_names_that_would_confuse_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "classes.json").write_text(content, encoding="utf-8")
    with pytest.raises(LabelMapError, match=message):
        read_class_names(tmp_path / "classes.json")


def test_what_should_be_a_folder_or_a_file_is_not_passed_over(scene_folder: Path) -> None:
    (scene_folder / "cond").rename(scene_folder / "targets")
    (scene_folder / "cond").symlink_to("cond")
    with pytest.raises(SceneError, match="cond is no folder"):
        load_scene(scene_folder)
    (scene_folder / "cond").unlink()
    (scene_folder / "classes.json").unlink(missing_ok=True)
    (scene_folder / "classes.json").mkdir()
    with pytest.raises(SceneError, match=r"cannot read class names from .*Is a directory"):
        load_scene(scene_folder)


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


CLASSES = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]


def layout() -> ClassIds:
    """Four classes; the last one is a 5x5 area."""
    ids = np.zeros((64, 96), dtype=np.uint8)
    ids[40:] = 1
    ids[10:30, 20:50] = 2
    ids[5:10, 80:85] = 3
    return ids


def colored(ids: ClassIds, colors: list[tuple[int, int, int]] | None = None) -> Image.Image:
    return Image.fromarray(np.array(colors or CLASSES, np.uint8)[ids])


def write_scene(folder: Path, label: Image.Image, target: Image.Image | None = None) -> Path:
    (folder / "cond").mkdir(parents=True)
    photograph = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(photograph).save(folder / "img.png")
    label.save(folder / "label.png")
    if target is not None:
        target.save(folder / "cond" / "new.png")
    return folder


def indexed_with_void() -> Image.Image:
    """As VOC's: a border of index 255 around an area."""
    ids = layout()
    ids[8:32, 18:20] = ids[8:32, 50:52] = 255
    image = Image.fromarray(ids, "P")
    colors = np.zeros((256, 3), np.uint8)
    colors[:4], colors[255] = CLASSES, (224, 224, 192)
    image.putpalette(colors.tobytes())
    return image


@pytest.mark.parametrize(
    "label",
    [
        Image.fromarray(layout()),
        Image.fromarray(layout().astype(np.uint16)),
        Image.fromarray(layout().astype(np.uint16) * 85 * 257),
        colored(layout(), [(70, 130, 180), (255, 41, 10), (255, 31, 0), (107, 142, 35)]),
    ],
    ids=["gray ids", "16-bit ids", "16-bit grays", "near colors"],
)
def test_exact_label_maps_are_read_exactly(tmp_path: Path, label: Image.Image) -> None:
    scene = load_scene(write_scene(tmp_path / "scene", label, label))
    assert len(scene.palette) == 4
    for ids in (scene.labels, scene.targets["new"]):
        pairs = np.unique(np.stack([ids, layout()], axis=-1).reshape(-1, 2), axis=0)
        assert len(pairs) == 4, "every class is one class"


def indexed(ids: ClassIds, order: list[int]) -> Image.Image:
    """An indexed picture in which class ``i`` has the index ``order[i]``."""
    colors = np.zeros((256, 3), np.uint8)
    colors[order] = CLASSES
    image = Image.fromarray(np.array(order, np.uint8)[ids], "P")
    image.putpalette(colors.tobytes())
    return image


def touched_up(ids: ClassIds) -> ClassIds:
    """Most of the first class becomes the fourth, which was the smallest."""
    ids = ids.copy()
    ids[:36, 52:] = 3
    return ids


@pytest.mark.parametrize(
    ("order", "codes", "notes"),
    [
        ([0, 1, 2, 3], ("#000000", "#800000", "#008000", "#808000"), ()),
        ([3, 0, 2, 1], ("#800000", "#808000", "#008000", "#000000"), ()),
        (
            [7, 0, 15, 3],
            ("#800000", "#808000", "#000000", "#008000"),
            ("the label map's own numbers 0, 3, 7, 15 are class ids 0, 1, 2, 3",),
        ),
    ],
)
def test_class_ids_follow_the_files_indices(
    tmp_path: Path, order: list[int], codes: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    before = load_scene(write_scene(tmp_path / "before", indexed(layout(), order)))
    after = load_scene(write_scene(tmp_path / "after", indexed(touched_up(layout()), order)))
    assert before.palette.hex_codes == codes
    assert after.palette == before.palette
    assert before.notes == notes


def test_a_touch_up_changes_no_class_id(tmp_path: Path) -> None:
    names = {"tree": "#008000", "sky": "#000000", "cat": "#FFFFFF", "lamp": "#808000", "road": "#800000"}
    drawn = layout()
    drawn[2:16, 70:90] = 3
    for number, ids in enumerate((drawn, touched_up(drawn))):
        folder = write_scene(tmp_path / str(number), colored(ids))
        assert load_scene(folder).palette.hex_codes == ("#000000", "#800000", "#008000", "#808000")
        (folder / "classes.json").write_text(json.dumps(names))
        assert load_scene(folder).palette.names == ("tree", "sky", "lamp", "road")
        Image.open(folder / "label.png").save(folder / "label.jpg", quality=90)
        (folder / "label.png").unlink()
        (folder / "classes.json").unlink()
        compressed = load_scene(folder).palette.array.astype(int)
        assert np.abs(compressed - CLASSES).max() < 8


def test_gray_ids_with_gaps_are_said(tmp_path: Path) -> None:
    gray = Image.fromarray(np.array([7, 11, 8, 26], np.uint8)[layout()])
    scene = load_scene(write_scene(tmp_path / "scene", gray))
    assert scene.palette.hex_codes == ("#070707", "#080808", "#0B0B0B", "#1A1A1A")
    assert scene.notes[-1] == "the label map's own numbers 7, 8, 11, 26 are class ids 0, 1, 2, 3"


def test_void_goes_to_its_neighbors_and_is_said(tmp_path: Path) -> None:
    scene = load_scene(write_scene(tmp_path / "scene", indexed_with_void(), indexed_with_void()))
    assert scene.palette.hex_codes == ("#000000", "#800000", "#008000", "#808000")
    assert len(scene.notes) == 1
    assert "palette index 255 (1.6 % of it) is read as no class" in scene.notes[0]
    without = scene.labels.copy()
    assert np.array_equal(without[10:30, 22:48], np.full((20, 26), 2))
    assert set(np.unique(scene.labels[8:32, 18:20])) <= {0, 2}
    assert np.array_equal(scene.targets["new"], scene.labels)


def test_a_color_may_be_named_void(tmp_path: Path) -> None:
    ids = layout()
    folder = write_scene(tmp_path / "scene", colored(ids))
    names = {"road": "#800000", "tree": "#008000", "sky": "#000000", "#808000": None, "cat": "#FFFFFF"}
    (folder / "classes.json").write_text(json.dumps(names), encoding="utf-8-sig")
    scene = load_scene(folder)
    assert set(scene.palette.names) == {"road", "tree", "sky"}
    assert scene.palette.names[scene.labels[7, 82]] == "sky"


def test_two_colors_of_a_target_are_never_one_class(tmp_path: Path) -> None:
    drifted = [(70, 130, 180), (128, 64, 128), (70, 70, 70), (107, 142, 35)]
    other = [*drifted[:2], (102, 102, 156), drifted[3]]
    folder = write_scene(tmp_path / "scene", colored(layout(), drifted), colored(layout(), other))
    with pytest.raises(SceneError, match=r"#4682B4 \(.* %.*\) and #66669C \(.* %.*\), all nearest to #4682B4"):
        load_scene(folder)
    moved = [(75, 135, 175), *drifted[1:]]
    assert load_scene(write_scene(tmp_path / "drift", colored(layout(), drifted), colored(layout(), moved)))


def test_a_target_of_ids_against_colors_is_refused_with_a_hint(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene", colored(layout()), Image.fromarray(layout()))
    with pytest.raises(SceneError, match="it looks like class ids"):
        load_scene(folder)


def test_names_in_capitals_and_stray_files_do_not_matter(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene", colored(layout()))
    (folder / "img.png").rename(folder / "IMG.PNG")
    (folder / "label.png").rename(folder / "Label.PNG")
    (folder / "cond" / ".DS_Store").touch()
    (folder / "cond" / "notes.txt").touch()
    scene = load_scene(folder)
    assert len(scene.palette) == 4
    assert scene.targets == {}

    (folder / "cond").rename(folder / "Cond")
    colored(layout()).save(folder / "Cond" / "same.PNG")
    names = dict(zip("abcd", reversed(scene.palette.hex_codes), strict=True))
    (folder / "Classes.JSON").write_text(json.dumps(names))
    scene = load_scene(folder)
    assert scene.palette.names == ("a", "b", "c", "d")
    assert list(scene.targets) == ["same"]
    (folder / "cond").mkdir()
    with pytest.raises(SceneError, match=r"Cond and cond: which is cond\? Keep one"):
        load_scene(folder)


def with_holes() -> Image.Image:
    colors = np.dstack([np.array(CLASSES, np.uint8)[layout()], np.full((64, 96), 255, np.uint8)])
    colors[:8, :8, 3] = 0
    return Image.fromarray(colors)


def with_one_color_twice() -> Image.Image:
    image = indexed(layout(), [0, 1, 2, 3])
    image.putpalette([0, 0, 0, 0, 0, 0, 0, 128, 0, 128, 128, 0])
    return image


@pytest.mark.parametrize(
    ("label", "classes", "note"),
    [
        (with_holes(), 4, "1.0 % of it is transparent, and read as the colors that are hidden there"),
        (with_one_color_twice(), 3, "palette indices 0 and 1 have one color, and are one class"),
        (
            Image.merge("LA", [Image.fromarray(layout()), Image.new("L", (96, 64), 255)]),
            4,
            "its gray values 0 to 3 are read as the classes",
        ),
    ],
)
def test_what_a_viewer_does_not_show_is_said(tmp_path: Path, label: Image.Image, classes: int, note: str) -> None:
    scene = load_scene(write_scene(tmp_path / "scene", label))
    assert len(scene.palette) == classes
    assert any(note in each for each in scene.notes)


def test_of_several_pages_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene", colored(layout()))
    pages = [colored(layout()), colored(np.zeros_like(layout()))]
    pages[0].save(folder / "label.tif", save_all=True, append_images=pages[1:])
    (folder / "label.png").unlink()
    scene = load_scene(folder)
    assert len(scene.palette) == 4
    assert "it has 2 pages; the first is read" in scene.notes[0]


def test_two_targets_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene", colored(layout()), colored(layout()))
    colored(layout()).save(folder / "cond" / "new.bmp")
    with pytest.raises(SceneError, match=r"cond has new\.bmp and new\.png: which is new\? Keep one"):
        load_scene(folder)

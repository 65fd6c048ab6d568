import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semia.core.errors import ImageError, LabelMapColorError
from semia.core.labels import Canvas
from semia.core.palette import Palette
from semia.evaluation.evaluate import Judge, JudgedTarget, judged_size, load_judged_scene, read_targets, target_folder
from semia.training.errors import EvaluationError, SceneError
from semia.training.scene import Scene


def test_targets_are_read_at_both_sizes(scene: Scene, scene_folder: Path) -> None:
    half = Canvas(22, 30)
    (target,) = read_targets(scene_folder / "cond", scene.palette, half)
    assert target.name == "moved"
    assert np.array_equal(target.drawn, scene.targets["moved"])
    assert target.on_canvas.shape == half


def test_one_unusable_target_is_one_too_many(scene: Scene, scene_folder: Path) -> None:
    targets = scene_folder / "cond"
    shutil.copy(targets / "moved.png", targets / "moved.bmp")
    with pytest.raises(ImageError, match=r"moved\.bmp and moved\.png: which is moved"):
        read_targets(targets, scene.palette, scene.canvas)
    (targets / "moved.bmp").unlink()
    Image.new("RGB", (60, 44), (255, 255, 0)).save(targets / "yellow.png")
    with pytest.raises(LabelMapColorError, match=r"yellow\.png has an area of unknown color"):
        read_targets(targets, scene.palette, scene.canvas)
    (targets / "yellow.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"yellow\.png"):
        read_targets(targets, scene.palette, scene.canvas)


def test_a_scene_without_targets_asks_for_some(scene_folder: Path) -> None:
    assert target_folder(scene_folder) == scene_folder / "cond"
    shutil.rmtree(scene_folder / "cond")
    with pytest.raises(EvaluationError, match="--targets"):
        target_folder(scene_folder)


def test_the_photograph_keeps_its_own_size(scene: Scene, scene_folder: Path) -> None:
    judged = load_judged_scene(scene_folder, scene.palette, Canvas(22, 30))
    assert judged.canvas == scene.canvas
    assert np.array_equal(judged.labels, scene.labels)


def test_another_scene_is_refused(scene: Scene, scene_folder: Path) -> None:
    with pytest.raises(EvaluationError, match="is 60x44, the generator draws 60x60: this is not its scene"):
        load_judged_scene(scene_folder, scene.palette, Canvas(60, 60))
    with pytest.raises(SceneError, match="unknown color"):
        load_judged_scene(scene_folder, Palette(((255, 255, 0), (0, 0, 0))), scene.canvas)


def test_pictures_are_judged_at_the_width_asked_for(scene: Scene) -> None:
    target = JudgedTarget("source", scene.labels, scene.labels)
    wide, narrow = (Judge.of_scene(scene, judged_size(scene.canvas, width)) for width in (60, 40))
    assert (wide.size, narrow.size) == (Canvas(44, 60), Canvas(29, 40))
    # A picture of half the size has lost what the wider judge sees, and the narrower sees less of.
    half = np.asarray(Image.fromarray(scene.image).resize((30, 22), Image.Resampling.LANCZOS))
    seen_wide, seen_narrow = (judge.judge(half, target).measured() for judge in (wide, narrow))
    assert seen_wide["sharp"] > 1.5 * seen_narrow["sharp"]


def test_too_few_pixels_are_refused(scene: Scene) -> None:
    with pytest.raises(EvaluationError, match="pictures of 30x22 are too small to judge"):
        judged_size(scene.canvas, 30)


def test_judging_needs_no_torch() -> None:
    script = (
        "import sys, semia.evaluation.evaluate; print(sorted({'torch', 'onnx', 'tritonclient'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""What is asked for: runs begun, and runs gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest

from semia.training.errors import RunError
from semia.training.request import TrainRequest
from semia.training.scene import CLASSES_FILE, TARGET_FOLDER, Scene


def give_order(folder: Path, scene: Scene, order: tuple[int, ...], prefix: str) -> None:
    codes = scene.palette.hex_codes
    content = json.dumps({f"{prefix}{class_id}": codes[class_id] for class_id in order})
    (folder / CLASSES_FILE).write_text(content, encoding="utf-8")


def test_a_run_keeps_its_order_of_classes(scene_folder: Path, scene: Scene, tmp_path: Path) -> None:
    """Runs of before classes had an order of their own are gone on with, whatever the order is now."""
    request = TrainRequest(scene=scene_folder, run=tmp_path / "run", preset="paper", iterations=1)
    give_order(scene_folder, scene, (0, 1, 2), "class ")
    with request.open_run() as begun:
        assert begun.scene.notes == ()
    give_order(scene_folder, scene, (2, 0, 1), "class ")
    resumed = TrainRequest(scene=scene_folder, run=tmp_path / "run", preset="paper", iterations=1, resume=True)
    with resumed.open_run() as opened:
        assert opened.scene.palette == opened.run.scene.palette == begun.scene.palette
        np.testing.assert_array_equal(opened.scene.labels, begun.scene.labels)
        assert [*opened.scene.targets] == [path.stem for path in sorted((scene_folder / TARGET_FOLDER).iterdir())]
        for stem, ids in opened.scene.targets.items():
            np.testing.assert_array_equal(ids, begun.scene.targets[stem])
        (note,) = opened.scene.notes
        assert note.startswith(
            f"class ids stay in the run's order, {begun.scene.palette}; --overwrite takes the scene's, "
        )
    give_order(scene_folder, scene, (2, 0, 1), "other ")
    with pytest.raises(RunError, match=r"begun with another .*palette: .*--overwrite"), resumed.open_run():
        pass

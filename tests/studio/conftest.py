"""A scene folder that the served "tiny" model fits."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semia.core.palette import Palette


@pytest.fixture
def tiny_ids() -> NDArray[np.uint8]:
    """A roof and a lawn under a sky: class ids of the tiny model."""
    ids = np.full((48, 64), 2, np.uint8)
    ids[34:] = 1
    ids[12:34, 8:28] = 0
    return ids


@pytest.fixture
def tiny_scene(tmp_path: Path, tiny_ids: NDArray[np.uint8], tiny_palette: Palette) -> Path:
    """A scene folder called "tiny", labelled, with one layout called "empty"."""
    folder = tmp_path / "tiny"
    (folder / "cond").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-12, 12, (*tiny_ids.shape, 3))
    colors = np.array([[170, 70, 50], [70, 140, 60], [130, 180, 230]])
    Image.fromarray((colors[tiny_ids] + noise).clip(0, 255).astype(np.uint8)).save(folder / "img.png")
    Image.fromarray(tiny_palette.render(tiny_ids)).save(folder / "label.png")
    empty = np.where(tiny_ids == 0, 2, tiny_ids).astype(np.uint8)
    Image.fromarray(tiny_palette.render(empty)).save(folder / "cond" / "empty.png")
    (folder / "classes.json").write_text('{"roof": "#FF0000", "lawn": "#00FF00", "sky": "#0000FF"}')
    return folder

"""Judging a generator's pictures of one scene at one size."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core import __version__
from semia.core.errors import LabelMapError
from semia.core.images import RGB, list_images, open_image
from semia.core.labels import Canvas, ClassIds, class_ids_from_label, fit_to_canvas, label_picture
from semia.core.palette import Palette
from semia.evaluation.figures import PictureMeasure
from semia.evaluation.seams import PATCH_SIDE
from semia.training.errors import EvaluationError
from semia.training.evaluation_file import Figures
from semia.training.scene import TARGET_FOLDER, Scene, load_scene

MIN_JUDGED_SIDE = 4 * PATCH_SIDE
"""Pixels: a quarter of it still has room for a patch."""

PACKAGES = ("numpy", "pillow", "scikit-image", "scikit-learn")
"""Their versions decide a figure's last digits."""


class JudgedTarget(NamedTuple):
    """A target, as drawn and as a generator takes it."""

    name: str  # file stem
    drawn: ClassIds  # uint8[h, w], at its file's own size
    on_canvas: ClassIds  # uint8[H, W]


def read_targets(folder: Path, palette: Palette, canvas: Canvas) -> list[JudgedTarget]:
    """Read a folder of target layouts; all must be usable, for means over fewer would not compare.

    Raises:
        ImageError: if the folder has no picture, or one cannot be read.
        LabelMapError: if one does not fit the palette or the canvas.
        EvaluationError: if two have one name.
    """
    targets: dict[str, JudgedTarget] = {}
    for path in list_images(folder):
        if path.stem in targets:
            raise EvaluationError(f"{folder} has two label maps called {path.stem!r}: give them different names")
        what = f"label map {path}"
        drawn = class_ids_from_label(label_picture(open_image(path), palette, what), palette, what)
        on_canvas = np.asarray(fit_to_canvas(Image.fromarray(drawn), canvas, what))
        targets[path.stem] = JudgedTarget(path.stem, drawn, on_canvas)
    return list(targets.values())


def target_folder(scene: Path) -> Path:
    """Where a scene folder keeps its own target layouts.

    Raises:
        EvaluationError: if it has none.
    """
    folder = scene / TARGET_FOLDER
    if not folder.is_dir():
        raise EvaluationError(f"the scene {scene} has no target layouts of its own: name a folder with --targets")
    return folder


def load_judged_scene(folder: Path, palette: Palette, canvas: Canvas) -> Scene:
    """The scene that pictures are judged against, at its photograph's own size, read with a generator's palette.

    Raises:
        SceneError: if the folder is no scene, or its label map has other colours.
        EvaluationError: if the generator draws other proportions.
    """
    scene = load_scene(folder, name="judged", palette=palette)
    try:
        fit_to_canvas(Image.fromarray(scene.labels), canvas)
    except LabelMapError:
        raise EvaluationError(
            f"the photograph in {folder} is {scene.canvas}, the generator draws {canvas}: this is not its scene"
        ) from None
    return scene


def judged_size(canvas: Canvas, width: int) -> Canvas:
    """The size at which pictures on a canvas are judged, given its width in pixels.

    Raises:
        EvaluationError: if that leaves too few pixels to measure anything.
    """
    size = Canvas(round(width * canvas.height / canvas.width), width)
    if min(size) < MIN_JUDGED_SIDE:
        raise EvaluationError(
            f"pictures of {size} are too small to judge: each side must have {MIN_JUDGED_SIDE} pixels (--width)"
        )
    return size


@dataclass(frozen=True)
class Judge:
    """Judges pictures of one scene at one size."""

    size: Canvas
    measure: PictureMeasure

    @classmethod
    def of_scene(cls, scene: Scene, size: Canvas) -> "Judge":
        """A judge of pictures at a size, as `judged_size` gives it."""
        labels = _resized(scene.labels, size, Image.Resampling.NEAREST)
        photograph = _resized(scene.image, size, Image.Resampling.LANCZOS)
        return cls(size, PictureMeasure(photograph, labels, scene.palette))

    def judge(self, picture: RGB, target: JudgedTarget) -> Figures:
        """The figures of a picture ``uint8[H, W, 3]`` that was made of a target, rounded."""
        layout = _resized(target.drawn, self.size, Image.Resampling.NEAREST)
        return self.measure.figures(_resized(picture, self.size, Image.Resampling.LANCZOS), layout).rounded()


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide the figures."""
    return {"semia": __version__} | {package: importlib.metadata.version(package) for package in PACKAGES}


def _resized(pixels: NDArray[np.uint8], size: Canvas, resampling: Image.Resampling) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size.width, size.height), resampling))

"""Evaluating generators of one scene: each draws the same targets, and its pictures are judged alike."""

import datetime
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core import DEFAULT_WIDTH, __version__
from semia.core.contact_sheet import Tile, result_sheet
from semia.core.errors import InputError, LabelMapError
from semia.core.images import RGB, find_entry, list_images, open_image, write_rgb
from semia.core.labels import Canvas, ClassIds, class_ids_from_label, fit_to_canvas, label_picture
from semia.core.palette import Palette
from semia.evaluation.figures import PictureMeasure
from semia.evaluation.generators import OpenedGenerator, draw_and_time
from semia.evaluation.seams import PATCH_SIDE
from semia.training.errors import EvaluationError
from semia.training.evaluation_file import EVALUATION_FILE, EVALUATION_SHEET, Evaluation, Figures
from semia.training.scene import TARGET_FOLDER, Scene, load_scene

MIN_JUDGED_SIDE = 4 * PATCH_SIDE  # pixels: a quarter of it still has room for a patch
PACKAGES = ("numpy", "pillow", "scikit-image", "scikit-learn")  # their versions decide a figure's last digits

FIGURE_HEADINGS = ("align ↑", "swd ↓", "coherence ↓", "complete ↓", "sharp ↓", "seams ↓")
"""The figures in the order in which tables have them; the arrows say which way is better."""


class JudgedTarget(NamedTuple):
    """A target, as drawn and as a generator takes it."""

    name: str  # file stem
    drawn: ClassIds  # uint8[h, w], at its file's own size
    on_canvas: ClassIds  # uint8[H, W]


def read_targets(folder: Path, palette: Palette, canvas: Canvas) -> list[JudgedTarget]:
    """Read a folder of target layouts; all must be usable, for means over fewer would not compare.

    Raises:
        ImageError: if the folder has no picture, two have one name, or one cannot be read.
        LabelMapError: if one does not fit the palette or the canvas.
    """
    targets: list[JudgedTarget] = []
    for path in list_images(folder):
        what = f"label map {path}"
        drawn = class_ids_from_label(label_picture(open_image(path), palette, what), palette, what)
        on_canvas = np.asarray(fit_to_canvas(Image.fromarray(drawn), canvas, what))
        targets.append(JudgedTarget(path.stem, drawn, on_canvas))
    return targets


def target_folder(scene: Path) -> Path:
    """Where a scene folder keeps its own target layouts.

    Raises:
        EvaluationError: if it has none.
    """
    folder = find_entry(scene, TARGET_FOLDER)
    if not folder.is_dir():
        raise EvaluationError(f"the scene {scene} has no target layouts of its own: name a folder with --targets")
    return folder


def load_judged_scene(folder: Path, palette: Palette, canvas: Canvas) -> Scene:
    """The scene that pictures are judged against, at its photograph's own size, read with a generator's palette.

    Raises:
        SceneError: if the folder is no scene, or its label map has other colors.
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


def _resized(pixels: NDArray[np.uint8], size: Canvas, resampling: Image.Resampling) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size.width, size.height), resampling))


@dataclass(frozen=True)
class EvaluationTask:
    """Generators of one scene, the targets that they draw, and what their pictures are judged against."""

    generators: tuple[OpenedGenerator, ...]
    scene: Scene  # at its photograph's own size
    targets: tuple[JudgedTarget, ...]
    size: Canvas  # at which pictures are judged

    @classmethod
    def prepare(
        cls,
        generators: Sequence[OpenedGenerator],
        *,
        scene: Path | None = None,
        targets: Path | None = None,
        width: int = DEFAULT_WIDTH,
    ) -> "EvaluationTask":
        """Read everything before anything long begins.

        Args:
            generators: of one scene and one size, at least one.
            scene: the scene folder to judge against; None: the one that a run was made of.
            targets: a folder of label maps; None: the scene's own.
            width: in pixels, at which pictures are judged.

        Raises:
            InputError: if a folder or file is missing or does not fit the generators, or the width is too small.
        """
        first = generators[0]
        folder = scene or next((each.scene for each in generators if each.scene is not None), None)
        if folder is None:
            raise InputError(f"{first.path} holds no photograph to judge against: name its scene folder with --scene")
        judged_scene = load_judged_scene(folder, first.palette, first.canvas)
        drawn = read_targets(targets or target_folder(folder), first.palette, first.canvas)
        return cls(tuple(generators), judged_scene, tuple(drawn), judged_size(first.canvas, width))

    @property
    def pictures(self) -> int:
        """How many pictures `run` judges."""
        return len(self.generators) * len(self.targets)

    def run(self, on_progress: Callable[[int, str], None] = lambda *_: None) -> list["EvaluatedGenerator"]:
        """Have every generator draw every target, and judge the pictures.

        ``on_progress`` is told how many are judged, and which the last was.
        """
        judge = Judge.of_scene(self.scene, self.size)
        versions = {"semia": __version__} | {package: importlib.metadata.version(package) for package in PACKAGES}
        results: list[EvaluatedGenerator] = []
        for generator in self.generators:
            drawn, milliseconds = draw_and_time(generator, {each.name: each.on_canvas for each in self.targets})
            figures: dict[str, Figures] = {}
            for target in self.targets:
                figures[target.name] = judge.judge(drawn[target.name], target)
                on_progress(len(results) * len(self.targets) + len(figures), f"{generator.name} {target.name}")
            evaluation = Evaluation(
                name=generator.name,
                generator_sha256=generator.generator_sha256,
                size=self.size,
                targets=figures,
                versions=versions,
                evaluated_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            )
            results.append(EvaluatedGenerator(self, generator, drawn, milliseconds, evaluation))
        return results

    def label_pictures(self) -> dict[str, RGB]:
        """The targets in the palette's colors, by name, on the generators' canvas."""
        return {target.name: self.scene.palette.render(target.on_canvas) for target in self.targets}


@dataclass(frozen=True)
class EvaluatedGenerator:
    """One generator's pictures and their figures."""

    task: EvaluationTask
    generator: OpenedGenerator
    pictures: Mapping[str, RGB]  # uint8[H, W, 3] by target name
    milliseconds: float  # median of drawing one
    evaluation: Evaluation  # the figures, by target and as means

    @property
    def notes(self) -> dict[str, str]:
        """Every target's figures as two short lines above its picture."""
        names = ("align", "swd", "coh", "com", "sharp", "seams")
        notes = {}
        for target, figures in self.evaluation.targets.items():
            parts = [f"{name} {value}" for name, value in zip(names, figures_row(figures, places=2), strict=True)]
            notes[target] = " ".join(parts[:3]) + "\n" + " ".join(parts[3:])
        return notes

    def sheet(self) -> RGB:
        """Photograph, labels, targets and pictures with their figures, ``uint8[H, W, 3]``, to look at."""
        return result_sheet(
            Tile("photograph", self.task.scene.image),
            Tile("its labels", self.task.scene.palette.render(self.task.scene.labels)),
            targets=self.task.label_pictures(),
            results=self.pictures,
            notes=self.notes,
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``evaluation.json`` and ``evaluation.png`` into a folder; returns their paths.

        Raises:
            SemiaError: if the disk refuses.
        """
        figures, sheet = folder / EVALUATION_FILE, folder / EVALUATION_SHEET
        self.evaluation.write(figures)
        write_rgb(sheet, self.sheet())
        return figures, sheet


def figures_row(figures: Figures, places: int = 3) -> list[str]:
    """The figures as a table shows them, as in `FIGURE_HEADINGS`; a dash where nothing could be measured."""
    values = (figures.align, figures.swd, figures.coherence, figures.complete, figures.sharp, figures.seams)
    thousandths = max(1, places - 2)
    digits = (places, thousandths, places, places, places, thousandths)
    return ["-" if value is None else f"{value:.{count}f}" for value, count in zip(values, digits, strict=True)]

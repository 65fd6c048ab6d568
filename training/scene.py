"""A scene: one photograph, its label map, the target layouts drawn for it; read from a folder and validated."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from semia.core.errors import ImageError, LabelMapError
from semia.core.files import check_model_name, model_name_from_path, write_text
from semia.core.images import (
    IMAGE_SUFFIXES,
    RGB,
    find_entry,
    find_image,
    is_image,
    list_images,
    open_image,
    read_photograph,
    write_rgb,
)
from semia.core.labels import (
    Canvas,
    ClassIds,
    LabelPicture,
    class_ids_from_label,
    fit_to_canvas,
    label_picture,
    read_class_ids,
    write_class_ids,
)
from semia.core.palette import Palette, color_from_hex, extract_palette
from semia.training.errors import SceneError

IMAGE_STEM = "img"
LABEL_STEM = "label"
TARGET_FOLDER = "cond"
CLASSES_FILE = "classes.json"

MIN_SIDE = 32  # pixels: the networks halve the picture three times and need neighbors to pad from
MAX_SIDE = 4096  # pixels: beyond this, one training step needs more memory than a machine is likely to have


@dataclass(frozen=True)
class Scene:
    """What one generator is made from; every array has the canvas's size."""

    name: str  # valid as a served model's name
    image: RGB  # the photograph, uint8[H, W, 3]
    labels: ClassIds  # its classes, uint8[H, W]
    palette: Palette
    targets: Mapping[str, ClassIds] = field(default_factory=dict)  # target layouts by file stem
    notes: tuple[str, ...] = ()  # what of its files was not taken as it stands, a line each

    def __post_init__(self) -> None:
        check_model_name(self.name)
        for what, array in [("label map", self.labels), *self.targets.items()]:
            if array.shape != self.image.shape[:2]:
                raise SceneError(f"scene {self.name}: {what} is {array.shape}, the image {self.image.shape[:2]}")
            if int(array.max()) >= len(self.palette):
                raise SceneError(f"scene {self.name}: {what} has a class id beyond the {len(self.palette)} classes")
        height, width = self.canvas
        if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
            raise SceneError(
                f"scene {self.name}: the canvas is {self.canvas}; each side must have "
                f"{MIN_SIDE} to {MAX_SIDE} pixels (change it with --resize)"
            )

    @property
    def canvas(self) -> Canvas:
        """The size of everything in the scene."""
        height, width = self.labels.shape
        return Canvas(height, width)

    def in_order_of(self, palette: Palette) -> "Scene":
        """The same scene with class ids in the order of another palette, if that has the same classes; else itself.

        A line among its notes says that ids are in another order than the scene's files have them.
        """
        if palette == self.palette or set(palette.classes) != set(self.palette.classes):
            return self
        ids = np.array([palette.classes.index(each) for each in self.palette.classes], np.uint8)
        note = f"class ids stay in the run's order, {palette}; --overwrite takes the scene's, {self.palette}"
        return replace(
            self,
            labels=ids[self.labels],
            palette=palette,
            targets={stem: ids[target] for stem, target in self.targets.items()},
            notes=(*self.notes, note),
        )


def load_scene(
    folder: Path,
    *,
    name: str | None = None,
    resize: float | None = None,
    max_side: int | None = None,
    palette: Palette | None = None,
) -> Scene:
    """Read a scene folder: ``img.*``, ``label.*``, optionally ``cond/*`` and ``classes.json``.

    The name is by default made from the folder's, the palette extracted from the label map. The photograph is scaled by
    ``resize``, such as 0.5; without that, down until its longer side is at most ``max_side`` pixels.

    Raises:
        SceneError: if a file is missing, unreadable, or contradicts the others.
    """
    scene_name = model_name_from_path(folder) if name is None else check_model_name(name)
    if not folder.is_dir():
        raise SceneError(f"no scene folder at {folder}")
    try:
        image, notes = read_photograph(_required(folder, IMAGE_STEM))
        label_path = _required(folder, LABEL_STEM)
        label = label_picture(open_image(label_path), palette, f"label map {label_path}")
        if palette is None:
            palette, label = _classes(folder, label)
        notes += label.notes
        canvas = _canvas(image, resize, max_side)
        ids = class_ids_from_label(label, palette, what=f"label map {label_path}")
        full_size = fit_to_canvas(Image.fromarray(ids), Canvas(*image.shape[:2]), f"label map {label_path}")
        labels = np.asarray(fit_to_canvas(full_size, canvas, f"label map {label_path}"))
        targets = {path.stem: read_class_ids(path, palette, canvas) for path in _target_paths(folder)}
    except (ImageError, LabelMapError) as error:
        raise SceneError(f"scene {folder}: {error}") from error
    if Canvas(*image.shape[:2]) != canvas:
        resampled = Image.fromarray(image).resize((canvas.width, canvas.height), Image.Resampling.LANCZOS)
        image = np.asarray(resampled)
    return Scene(scene_name, image, labels, palette, targets, notes)


def _classes(folder: Path, label: LabelPicture) -> tuple[Palette, LabelPicture]:
    """The label map's classes, named as the folder says, and the label map with all that is void marked."""
    path = find_entry(folder, CLASSES_FILE)
    named = read_class_names(path) if os.path.lexists(path) else None
    if named is not None and named.void:
        void = label.void.copy()
        for color in named.void:
            void |= (label.colors == np.array(color, np.uint8)).all(axis=-1)
        label = label._replace(void=void)
    palette, notes = extract_palette(label.colors, void=label.void, numbers=label.numbers)
    if named is not None:
        palette = palette.with_names(named.color_of_name)
    numbers = [] if label.numbers is None else [label.numbers.get(color) for color in palette.colors]
    if None not in numbers and numbers != [*range(len(numbers))]:
        given, ids = ", ".join(map(str, numbers)), ", ".join(map(str, range(len(numbers))))
        notes += (f"the label map's own numbers {given} are class ids {ids}",)
    return palette, label._replace(notes=label.notes + notes)


@dataclass(frozen=True)
class ClassNames:
    """A scene's ``classes.json``."""

    color_of_name: Mapping[str, str]  # ``#RRGGBB`` by class name
    void: frozenset[tuple[int, int, int]]  # colors that are no class: their pixels go to their neighbors'


def read_class_names(path: Path) -> ClassNames:
    """Read a scene's ``classes.json``: ``{"sky": "#66CCFF", ..., "#E0E0C0": null}``; null makes a color void.

    Raises:
        LabelMapError: if it is not a JSON object of such entries.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_each_once)
    except (OSError, ValueError, RecursionError) as error:
        raise LabelMapError(f"cannot read class names from {path}: {error}") from error
    if not isinstance(content, dict) or not all(code is None or isinstance(code, str) for code in content.values()):
        raise LabelMapError(
            f'{path} must be a JSON object of names and colors, like {{"sky": "#66CCFF"}}; a color that is no class '
            'is written {"#E0E0C0": null}'
        )
    for name, code in content.items():
        if code is not None and (not name.strip() or not name.isprintable()):
            raise LabelMapError(f"{path}: {name!r} cannot name a class: use letters that can be seen")
    void = frozenset(color_from_hex(key) for key, code in content.items() if code is None)
    return ClassNames({name: code for name, code in content.items() if code is not None}, void)


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of two members of one name, JSON's readers keep the last without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def save_scene(scene: Scene, folder: Path) -> None:
    """Write a scene as a scene folder that `load_scene` reads back exactly, given its palette."""
    write_rgb(folder / f"{IMAGE_STEM}.png", scene.image)
    write_class_ids(folder / f"{LABEL_STEM}.png", scene.labels, scene.palette)
    for stem, ids in scene.targets.items():
        write_class_ids(folder / TARGET_FOLDER / f"{stem}.png", ids, scene.palette)
    if scene.palette.names:
        colors = dict(zip(scene.palette.names, scene.palette.hex_codes, strict=True))
        write_text(folder / CLASSES_FILE, json.dumps(colors, indent=2) + "\n")


def _required(folder: Path, stem: str) -> Path:
    path = find_image(folder, stem)
    if path is None:
        raise SceneError(f"scene {folder} has no {stem} picture ({stem}.png, .jpg; also {', '.join(IMAGE_SUFFIXES)})")
    return path


def _target_paths(folder: Path) -> list[Path]:
    targets = find_entry(folder, TARGET_FOLDER)
    if os.path.lexists(targets) and not targets.is_dir():
        raise SceneError(f"scene {folder}: {targets.name} is no folder; it is one of target label maps, if it is there")
    return list_images(targets) if targets.is_dir() and any(map(is_image, targets.iterdir())) else []


def _canvas(image: RGB, resize: float | None, max_side: int | None) -> Canvas:
    height, width = image.shape[:2]
    factor = resize
    if factor is None:
        factor = min(1.0, max_side / max(height, width)) if max_side else 1.0
    if not 0 < factor <= 4:
        raise SceneError(f"--resize must be above 0 and at most 4, not {factor}")
    return Canvas(max(1, round(height * factor)), max(1, round(width * factor)))

"""The scene folders that the studio shows: photographs, label maps, layouts. It writes nowhere else."""

import io
import json
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from semia.core.errors import ImageError, InputError, LabelMapError
from semia.core.files import check_model_name, model_name_from_path, write_text
from semia.core.images import MAX_PIXELS, RGB, find_entry, find_image, is_image, read_photograph, write_rgb
from semia.core.labels import Canvas, ClassIds, read_class_ids, write_class_ids
from semia.core.palette import MAX_CLASSES, Palette, color_from_hex, extract_palette
from semia.studio.errors import ChangedError, NotFoundError
from semia.training.scene import (
    CLASSES_FILE,
    IMAGE_STEM,
    LABEL_STEM,
    MAX_SIDE,
    MIN_SIDE,
    TARGET_FOLDER,
    Scene,
    load_scene,
)

LAYOUT_NAME = re.compile(r"\w[\w .-]{0,63}")
MAX_NAME_BYTES = 200
"""Of a layout's name; with what is added to it, file systems take no more than 255."""

CLASS_NAME = re.compile(r"\S(.{0,38}\S)?")

UPLOAD_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Pillow's names; of the other formats that it reads, some start programs."""

SET_ASIDE = ".before-studio"
"""Suffix of a label map that was not a PNG and has been replaced by one."""


@dataclass(frozen=True)
class LabelClass:
    """A class as the page has it."""

    name: str
    color: tuple[int, int, int]

    @classmethod
    def from_json(cls, content: object) -> "LabelClass":
        """From the page's ``{"name": ..., "color": "#RRGGBB"}``.

        Raises:
            InputError: if it is something else.
        """
        if not isinstance(content, dict) or not isinstance(content.get("color"), str):
            raise InputError(f"a class has a name and a color, not {content!r}")
        name = content.get("name")
        if not isinstance(name, str) or not CLASS_NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a class: use 1 to 40 characters, no spaces around them")
        return cls(name, color_from_hex(content["color"]))


def classes_from_json(content: object) -> list[LabelClass]:
    """The page's list of classes.

    Raises:
        InputError: if it is no such list, or names or colors are not all different.
    """
    if not isinstance(content, list) or not 1 <= len(content) <= MAX_CLASSES:
        raise InputError(f"a scene has 1 to {MAX_CLASSES} classes")
    classes = [LabelClass.from_json(each) for each in content]
    for what, values in (("name", [each.name for each in classes]), ("color", [each.color for each in classes])):
        if len(set(values)) < len(values):
            raise InputError(f"each class needs a {what} of its own")
    return classes


@dataclass(frozen=True)
class LayoutFile:
    """A layout on the disk."""

    name: str  # file stem
    tag: str  # changes when the file does


class SceneFolder:
    """One scene folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = model_name_from_path(path)

    @property
    def photograph_path(self) -> Path:
        """Its photograph.

        Raises:
            NotFoundError: if there is none.
        """
        path = find_image(self.path, IMAGE_STEM)
        if path is None:
            raise NotFoundError(f"{self.path} has no photograph ({IMAGE_STEM}.png, .jpg)")
        return path

    def photograph(self) -> RGB:
        """The photograph ``uint8[H, W, 3]``.

        Raises:
            ImageError: if it cannot be read.
            NotFoundError: if there is none.
        """
        return read_photograph(self.photograph_path)[0]

    @property
    def label_path(self) -> Path | None:
        """Its label map, if there is one."""
        return find_image(self.path, LABEL_STEM)

    def labelled(self) -> Scene:
        """The whole scene, as preparing reads it.

        Raises:
            SceneError: if a file is missing, unreadable, or contradicts the others.
        """
        return load_scene(self.path)

    def class_names(self) -> dict[str, str]:
        """Colors by name, as classes.json has them; empty where there is no such file."""
        path = find_entry(self.path, CLASSES_FILE)
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        return {name: code for name, code in content.items() if code is not None} if isinstance(content, dict) else {}

    def save_label(self, ids: ClassIds, classes: Sequence[LabelClass], tag: str) -> str:
        """Write label.png and classes.json; returns the label map's new tag.

        Args:
            ids: ``uint8[H, W]``, of the photograph's size.
            classes: by class id.
            tag: of the label map that the page last saw; "" for none, "*" for any.

        Raises:
            ChangedError: if the file is another by now.
            LabelMapError: if reading the label map back would give other classes.
            ImageError: if the disk refuses.
        """
        old = self.label_path
        _check_tag(old, tag, "label map")
        palette = Palette(tuple(each.color for each in classes), tuple(each.name for each in classes))
        _check_classes(ids, palette)
        codes = dict(zip(palette.names, palette.hex_codes, strict=True))
        path = self.path / f"{LABEL_STEM}.png"
        write_class_ids(path, ids, palette)
        write_text(find_entry(self.path, CLASSES_FILE), json.dumps(codes, indent=2) + "\n")
        if old is not None and old != path:
            old.rename(old.with_name(old.name + SET_ASIDE))
        return tag_of(path)

    def layouts(self) -> list[LayoutFile]:
        """The layouts in ``cond/``, by name."""
        folder = find_entry(self.path, TARGET_FOLDER)
        if not folder.is_dir():
            return []
        return [LayoutFile(path.stem, tag_of(path)) for path in sorted(folder.iterdir()) if is_image(path)]

    def read_layout(self, name: str, palette: Palette, canvas: Canvas) -> tuple[ClassIds, str]:
        """A layout's class ids ``uint8[H, W]`` by a model's palette, on its canvas; and its tag.

        Raises:
            NotFoundError: if there is none of that name.
            ImageError, LabelMapError: if the file cannot be read, or is not for this palette and canvas.
        """
        path = self._layout_path(name)
        tag = tag_of(path)
        return read_class_ids(path, palette, canvas), tag

    def read_source(self, palette: Palette, canvas: Canvas) -> ClassIds:
        """The photograph's own label map, likewise.

        Raises:
            NotFoundError: if there is none.
            ImageError, LabelMapError: as `read_layout`.
        """
        path = self.label_path
        if path is None:
            raise NotFoundError(f"{self.name} has no label map yet")
        return read_class_ids(path, palette, canvas)

    def save_layout(self, name: str, ids: ClassIds, palette: Palette, tag: str) -> str:
        """Write a layout; returns its tag.

        Args:
            name: its file stem.
            ids: ``uint8[H, W]``.
            palette: of the model.
            tag: of the file that the page last saw; "" for a new one, "*" for any.

        Raises:
            InputError: if the name cannot be a file's.
            ChangedError: if the file is another by now, or there is one.
            ImageError: if the disk refuses.
        """
        name = _composed(check_layout_name(name))
        path = find_entry(self.path, TARGET_FOLDER) / f"{name}.png"
        there = self._find_layout(name)
        if there is not None and there != path:
            raise ChangedError(f"there is a {there.name} already: choose another name")
        _check_tag(there, tag, f"layout {name!r}")
        write_class_ids(path, ids, palette)
        return tag_of(path)

    def delete_layout(self, name: str) -> None:
        """Delete a layout.

        Raises:
            NotFoundError: if there is none of that name.
        """
        self._layout_path(name).unlink()

    def rename_layout(self, name: str, new_name: str) -> None:
        """Give a layout another name.

        Raises:
            NotFoundError: if there is none of that name.
            InputError: if the new name cannot be a file's.
            ChangedError: if another layout has it.
        """
        path = self._layout_path(name)
        other = self._find_layout(check_layout_name(new_name))
        if other is not None and other != path:
            raise ChangedError(f"there is a layout {other.stem!r} already")
        path.rename(path.with_name(_composed(new_name) + path.suffix))

    def _find_layout(self, name: str) -> Path | None:
        folder = find_entry(self.path, TARGET_FOLDER)
        paths = folder.iterdir() if folder.is_dir() else iter(())
        found = sorted(path for path in paths if is_image(path))
        # Where there is none of exactly this name, one of another case: some disks would replace it.
        for key in (str, _composed, lambda text: _composed(text).casefold()):
            for path in found:
                if key(path.stem) == key(name):
                    return path
        return None

    def _layout_path(self, name: str) -> Path:
        path = self._find_layout(name)
        if path is None:
            raise NotFoundError(f"{self.name} has no layout {name!r}")
        return path


class Scenes:
    """All scene folders by name: those that were named on the command line, and uploads."""

    def __init__(self, folders: Sequence[Path], uploads: Path) -> None:
        """Open scene folders.

        Args:
            folders: as named; they must exist.
            uploads: the folder in which photographs become scenes; made with the first of them.

        Raises:
            InputError: if a folder is missing or none, or two have the same name.
        """
        if uploads.exists() and not uploads.is_dir():
            raise InputError(f"{uploads} is no folder: photographs from the page become folders in it")
        self._uploads = uploads
        self._folders: dict[str, SceneFolder] = {}
        earlier = sorted(path.parent for path in uploads.glob(f"*/{IMAGE_STEM}.*")) if uploads.is_dir() else []
        for path in (*folders, *earlier):
            if not path.is_dir():
                raise InputError(f"no scene folder at {path}")
            scene = SceneFolder(path)
            other = self._folders.get(scene.name)
            if other is not None and other.path.resolve() != path.resolve():
                raise InputError(f"{other.path} and {path} are both called {scene.name}: rename one of them")
            self._folders[scene.name] = scene

    def __iter__(self) -> Iterator[SceneFolder]:
        return iter(self._folders.values())

    def __getitem__(self, name: str) -> SceneFolder:
        """A scene by its name.

        Raises:
            NotFoundError: if there is none.
        """
        scene = self._folders.get(name)
        if scene is None:
            raise NotFoundError(f"the studio has no scene {name!r}; it has {', '.join(self._folders) or 'none'}")
        return scene

    def add(self, name: str, data: bytes, max_side: int) -> tuple[SceneFolder, tuple[str, ...]]:
        """Make a scene of an uploaded photograph, decoded and written anew; returns it, and lines on what was ignored.

        Args:
            name: the scene's.
            data: a picture file.
            max_side: a photograph with a longer side is scaled down to it.

        Raises:
            InputError: if the name is taken or no scene's, or the photograph is unreadable, too small or too large.
        """
        check_model_name(name)
        folder = self._uploads / name
        if name in self._folders or folder.exists():
            raise ChangedError(f"there is a scene {name!r} already: choose another name")
        decoded, notes = _decoded(data)
        photograph = _scaled(decoded, min(max_side, MAX_SIDE))
        if min(photograph.shape[:2]) < MIN_SIDE:
            height, width = photograph.shape[:2]
            raise InputError(f"the photograph is {width}x{height}: each side must have at least {MIN_SIDE} pixels")
        write_rgb(folder / f"{IMAGE_STEM}.png", photograph)
        self._folders[name] = SceneFolder(folder)
        return self._folders[name], notes


def tag_of(path: Path) -> str:
    """What tells one state of a file from another."""
    status = path.stat()
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _composed(text: str) -> str:
    """Letters with accents as one character each, as all but macOS write them."""
    return unicodedata.normalize("NFC", text)


def check_layout_name(name: str) -> str:
    """Return ``name`` if it can be a layout's file stem.

    Raises:
        InputError: for anything else.
    """
    if not LAYOUT_NAME.fullmatch(_composed(name)) or len(name.encode()) > MAX_NAME_BYTES or name != name.strip(" ."):
        raise InputError(f"{name!r} cannot name a layout: use letters, digits, spaces, '-', '_' and '.', at most 64")
    return name


def _check_tag(path: Path | None, tag: str, what: str) -> None:
    there = "" if path is None else tag_of(path)
    if tag not in ("*", there):
        if not tag:
            raise ChangedError(f"there is a {what} already")
        raise ChangedError(f"the {what} was changed on the disk since it was opened here")


def _check_classes(ids: ClassIds, palette: Palette) -> None:
    """Make sure that a label map, read back, has the classes that it was painted with."""
    found = extract_palette(palette.render(ids)).palette
    counts = np.bincount(ids.reshape(-1), minlength=len(palette))
    for name, color, count in zip(palette.names, palette.colors, counts, strict=True):
        if count and color not in found.colors:
            raise LabelMapError(
                f"class {name!r} has {count} pixels, too few for a class: paint more of it, or remove it"
            )
    found.with_names(dict(zip(palette.names, palette.hex_codes, strict=True)))


def _decoded(data: bytes) -> tuple[RGB, tuple[str, ...]]:
    try:
        with Image.open(io.BytesIO(data), formats=UPLOAD_FORMATS) as image:
            suffix = f".{(image.format or '').lower()}"
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"the photograph is {image.width}x{image.height}: more than {MAX_PIXELS:,} pixels")
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"the photograph claims to have more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        raise ImageError("this is no photograph: choose a PNG, JPEG, WebP, BMP or TIFF file") from error
    with tempfile.NamedTemporaryFile(prefix="semia-studio-", suffix=suffix) as file:
        file.write(data)
        file.flush()
        try:
            photograph, notes = read_photograph(Path(file.name))
            return photograph, tuple(note.replace(file.name, "the photograph") for note in notes)
        except ImageError as error:
            raise ImageError(str(error).replace(file.name, "the photograph")) from error


def _scaled(photograph: RGB, max_side: int) -> RGB:
    height, width = photograph.shape[:2]
    factor = max_side / max(height, width)
    if factor >= 1:
        return photograph
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.LANCZOS))

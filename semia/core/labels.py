"""Label maps: from colored pictures, as people draw them, to class ids on a scene's canvas.

`semia.core.color_matching` decides which class a color is.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core.color_matching import class_ids_from_picture
from semia.core.errors import ImageError, LabelMapColorError, LabelMapSizeError, LabelMapTypeError
from semia.core.images import DEEP_MODES, PAGES, gray_values, open_image, rgb_array, write_image
from semia.core.palette import Palette

ClassIds = NDArray[np.uint8]
"""A label map: ``uint8[H, W]`` indices into a `Palette`."""

VOID_NUMBER = 255  # the palette index, or gray value, of pixels that are no class
SMALL_GRAYS = 64  # gray values all below this are class ids rather than colors
SIZE_SLACK = 2  # pixels by which a label map's proportions may miss the canvas's and still mean the whole canvas
MAX_STRETCH = 0.05  # the same as a share of a side: of a thumbnail, two pixels may be half


class Canvas(NamedTuple):
    """The size, in pixels, of every label map and picture of one scene."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def fit_to_canvas(image: Image.Image, canvas: Canvas, what: str = "label map") -> Image.Image:
    """Resample a label map to the canvas (nearest neighbor), if it shows the same picture at another scale.

    Raises:
        LabelMapSizeError: if its proportions are not the canvas's, to within `SIZE_SLACK` and `MAX_STRETCH`.
    """
    width, height = image.size
    if (height, width) == canvas:
        return image
    # Equal proportions make the products equal; a side off by one pixel moves them apart by the other side.
    across, down = width * canvas.height, height * canvas.width
    slack = min(SIZE_SLACK * max(width, height, *canvas), MAX_STRETCH * max(across, down))
    if 0 in image.size or abs(across - down) > slack:
        raise LabelMapSizeError(
            f"the {what} is {width}x{height}, the canvas is {canvas} (width x height): "
            "give it the same proportions, or crop it"
        )
    return image.resize((canvas.width, canvas.height), Image.Resampling.NEAREST)


class LabelPicture(NamedTuple):
    """A label map as a file has it, before its colors are known to be classes."""

    colors: NDArray[np.uint8]  # [H, W, 3]
    void: NDArray[np.bool_]  # [H, W]: pixels that are no class
    notes: tuple[str, ...]  # a line for each thing that was not taken as it stands
    numbers: Mapping[tuple[int, int, int], int] | None = None  # palette index or class id of each color in the file


def label_picture(image: Image.Image, palette: Palette | None = None, what: str = "label map") -> LabelPicture:
    """A label map of any Pillow mode: its numbers as they stand, whatever color profile comes with them.

    Gray values and palette indices of 255 beside a few small ones are void, as in VOC's and Cityscapes' maps, unless
    the color is one of the palette's.

    Raises:
        ImageError: if the picture was opened lazily and its file is broken, or has more gray values than 8 bits hold.
    """
    notes = _hidden_things(image, what)
    if image.mode in DEEP_MODES:
        image = Image.fromarray(_gray_labels(image, what))
    if image.mode == "LA":
        image = image.getchannel("L")
    colors = rgb_array(image)
    void = np.zeros(colors.shape[:2], dtype=np.bool_)
    if image.mode not in ("P", "L"):
        return LabelPicture(colors, void, notes)
    numbers = np.asarray(image)
    used, places = np.unique(numbers, return_index=True)
    ids: dict[tuple[int, int, int], int] = {}
    for number, (red, green, blue) in zip(used.tolist(), colors.reshape(-1, 3)[places].tolist(), strict=True):
        if (first := ids.setdefault((red, green, blue), number)) != number:
            notes += (f"{what}: palette indices {first} and {number} have one color, and are one class",)
    others = used[used != VOID_NUMBER]
    if len(others) < len(used) and len(others) >= 2 and others.max() < VOID_NUMBER // 2:
        void = numbers == VOID_NUMBER
        color = tuple(colors[void][0].tolist())
        if palette is not None and color in palette.colors:
            return LabelPicture(colors, np.zeros_like(void), notes)
        kind = "palette index" if image.mode == "P" else "gray value"
        share = 100 * np.count_nonzero(void) / void.size
        note = f"{what}: {kind} 255 ({share:.1f} % of it) is read as no class: its neighbors' count"
        return LabelPicture(colors, void, (*notes, note), ids)
    if image.mode == "L" and len(used) >= 2 and used.max() < SMALL_GRAYS:
        span = f"{used.min()} {'to' if len(used) > 2 else 'and'} {used.max()}"
        notes += (f"{what}: its gray values {span} are read as the classes",)
        return LabelPicture(colors, void, notes, ids)
    return LabelPicture(colors, void, notes, ids if image.mode == "P" else None)


def _hidden_things(image: Image.Image, what: str) -> tuple[str, ...]:
    """A line for what a viewer shows otherwise than it is read: further pages, and colors that are transparent."""
    notes: tuple[str, ...] = ()
    if (pages := image.info.get(PAGES, 1)) > 1:
        notes += (f"{what}: it has {pages} pages; the first is read",)
    if image.has_transparency_data:
        transparent = np.asarray(image.convert("RGBA"))[..., 3] == 0
        if transparent.any():
            share = 100 * np.count_nonzero(transparent) / transparent.size
            notes += (f"{what}: {share:.1f} % of it is transparent, and read as the colors that are hidden there",)
    return notes


def _gray_labels(image: Image.Image, what: str) -> NDArray[np.uint8]:
    """Gray values of more than 8 bits, all of them kept apart."""
    values = gray_values(image)
    different = np.unique(values)
    if different.min() >= 0 and different.max() <= np.iinfo(np.uint8).max and (different == np.rint(different)).all():
        return values.astype(np.uint8)
    scaled = np.ascontiguousarray(rgb_array(image, f"the {what}")[..., 0])
    if len(np.unique(scaled)) < len(different):
        raise ImageError(
            f"the {what} has {len(different)} gray values of more than 8 bits, which 8 bits do not keep apart: "
            "save it with values 0 to 255, or in colors"
        )
    return scaled


def fill_void(ids: ClassIds, void: NDArray[np.bool_]) -> ClassIds:
    """Give void pixels ``bool[H, W]``, not all, the class of a nearest other pixel, ring by ring: ``uint8[H, W]``."""
    filled, left = ids.copy(), void.copy()
    while left.any():
        rows, columns = np.nonzero(left)
        known = np.pad(~left, 1)
        around = np.pad(filled, 1)
        reached = np.zeros(len(rows), dtype=np.bool_)
        for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            usable = known[rows + 1 + down, columns + 1 + right] & ~reached
            filled[rows[usable], columns[usable]] = around[rows[usable] + 1 + down, columns[usable] + 1 + right]
            reached |= usable
        left[rows[reached], columns[reached]] = False
    return filled


def class_ids_from_label(label: LabelPicture, palette: Palette, what: str = "label map") -> ClassIds:
    """`class_ids_from_picture`, void pixels filled up from beside them.

    Raises:
        LabelMapColorError: as `class_ids_from_picture`, or if all pixels are void.
    """
    if not label.void.any():
        return class_ids_from_picture(label.colors, palette, what)
    if label.void.all():
        raise LabelMapColorError(f"all of the {what} is void: no pixel says a class; the palette is {palette}")
    # A void pixel's color must not be mistaken for an area's: it becomes a class's before colors are compared.
    colors = label.colors.copy()
    colors[label.void] = palette.array[0]
    ids = class_ids_from_picture(colors, palette, what)
    return fill_void(ids, label.void)


def class_ids_from_image(image: Image.Image, palette: Palette, canvas: Canvas, what: str = "label map") -> ClassIds:
    """A label picture of any Pillow mode as class ids ``uint8[H, W]`` on the canvas.

    Colors are read before the size is fitted, so that resampling never meets a blended color twice.

    Raises:
        ImageError: if the file cannot be read, be it now, where it was opened lazily.
        LabelMapSizeError: if the proportions do not fit.
        LabelMapColorError: if the colors do not.
    """
    fit_to_canvas(image, canvas, what)
    label = label_picture(image, palette, what)
    ids = class_ids_from_label(label, palette, what)
    return np.asarray(fit_to_canvas(Image.fromarray(ids), canvas, what))


def read_class_ids(path: Path, palette: Palette, canvas: Canvas) -> ClassIds:
    """Read a label map file as class ids ``uint8[H, W]`` on the canvas.

    Raises:
        ImageError, LabelMapSizeError, LabelMapColorError: as `class_ids_from_image`.
    """
    return class_ids_from_image(open_image(path), palette, canvas, what=f"label map {path}")


def write_class_ids(path: Path, ids: ClassIds, palette: Palette) -> None:
    """Write class ids as an indexed PNG: exact for programs, colored for people.

    Raises:
        ImageError: if the disk refuses.
    """
    image = Image.fromarray(ids)
    image.putpalette(palette.array.tobytes())
    write_image(path, image)


Target = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""The label map to make a picture for: a picture's path, a picture, RGB ``uint8[H, W, 3]``, or class ids
``uint8[H, W]``."""


def class_ids_from_target(target: Target, palette: Palette, canvas: Canvas, generator: str = "generator") -> ClassIds:
    """A target as class ids ``uint8[H, W]`` on the canvas.

    Pictures may have another size of the same proportions; class ids are taken as they are. Messages call the generator
    by ``generator``.

    Raises:
        LabelMapTypeError: if the target is none of the forms of `Target`, or an id has no class.
        ImageError: if its picture cannot be read.
        LabelMapSizeError: if it does not fit the canvas.
        LabelMapColorError: if an area has a color far from every class.
    """
    if isinstance(target, (str, os.PathLike)):
        return read_class_ids(Path(target), palette, canvas)
    if isinstance(target, Image.Image):
        return class_ids_from_image(target, palette, canvas, what="target")
    if not isinstance(target, np.ndarray):
        raise LabelMapTypeError(f"a target is a path, a Pillow picture or a numpy array, not {type(target).__name__}")
    _check_array(target)
    if target.ndim == 3:
        return class_ids_from_image(Image.fromarray(target), palette, canvas, what="target")
    if target.shape != canvas:
        height, width = target.shape
        raise LabelMapSizeError(
            f"the class ids are {width}x{height}, the canvas of {generator} is {canvas} "
            "(width x height), and ids are not resampled"
        )
    if target.max() >= len(palette):
        raise LabelMapTypeError(
            f"the target has class id {target.max()}, but {generator} has {len(palette)} classes, "
            f"numbered from 0: {palette}"
        )
    return target


def _check_array(target: NDArray[Any]) -> None:
    received = f"{target.dtype}{list(target.shape)}"
    if target.ndim != 2 and (target.ndim != 3 or target.shape[2] != 3):
        raise LabelMapTypeError(f"the target is {received}: give class ids uint8[H, W] or RGB uint8[H, W, 3]")
    if target.dtype != np.uint8:
        raise LabelMapTypeError(f"the target is {received}, not uint8: convert it with .astype(np.uint8)")
    if not target.size:
        raise LabelMapSizeError(f"the target is empty: {received}")

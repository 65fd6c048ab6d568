"""Label maps: from colored pictures, as people draw them, to class ids on a scene's canvas.

Maps as programs write them hold the palette's colors and nothing else. Maps as people draw them are
dirty: another tool's green is not quite this one's, soft brushes blend two classes along their border,
JPEG smears both. Three rules read them:

1. A color within the palette's tolerance of a class is that class,
2. unless it lies on a border between two other classes and could be a blend of those.
3. What is left is borders: each pixel takes the more similar of the classes beside it.

What is left after that, far from every class, is no label: an area of it is refused.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core.errors import ImageError, LabelMapColorError, LabelMapSizeError, LabelMapTypeError
from semia.core.images import DEEP_MODES, PAGES, gray_values, open_image, rgb_array, write_image
from semia.core.palette import (
    BOX_MASK,
    Palette,
    color_clusters,
    distance_to_blend,
    exact_colors,
    flat_area,
    hex_code,
    median_color,
    pack_colors,
)

ClassIds = NDArray[np.uint8]
"""A label map: ``uint8[H, W]`` indices into a `Palette`."""

FOREIGN_SHARE = 0.001
"""An area of foreign color is refused from this share of the label map on."""

BORDER_REACH = 8
"""How many pixels a blended border reaches from the areas it separates: soft brushes and JPEG chroma stay within."""

VOID_NUMBER = 255
"""The palette index, or gray value, of pixels that are no class."""

SMALL_GRAYS = 64
"""Gray values all below this are class ids rather than colors."""

SIZE_SLACK = 2
"""Pixels by which a label map's proportions may miss the canvas's and still mean the whole canvas."""

MAX_STRETCH = 0.05
"""The same as a share of a side: of a thumbnail, two pixels may be half."""

_NEIGHBORS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))


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
        notes += (f"{what}: its gray values {_span(used)} are read as the classes",)
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


def _span(values: NDArray[Any]) -> str:
    return f"{values.min()} to {values.max()}" if len(values) > 2 else f"{values.min()} and {values.max()}"


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


def class_ids_from_picture(picture: NDArray[np.uint8], palette: Palette, what: str = "label map") -> ClassIds:
    """Map a label map's colors ``uint8[H, W, 3]`` onto the palette, by the rules at the top of this module.

    Raises:
        LabelMapColorError: if an area has a color far from every class; it names the color, its share, the palette.
    """
    ids, dirty = _match_exactly(picture, palette)
    if not dirty.any():
        return ids
    dirty_colors = picture.reshape(-1, 3).take(np.flatnonzero(dirty), axis=0)  # picture[dirty], ten times as fast
    nearest, within_tolerance = _match_nearest(dirty_colors, palette)
    ids[dirty] = nearest
    assigned = np.ones_like(dirty)
    assigned[dirty] = within_tolerance
    flat = flat_area(picture)
    assigned &= flat | ~_possible_blends(picture, ids, flat, palette)
    unassigned = ~assigned
    _refuse_foreign_area(picture, unassigned & flat, palette, what)
    # Of two colors of one class one at least is not the palette's: most soft borders need no further look.
    if np.count_nonzero(dirty & flat) >= FOREIGN_SHARE * flat.size:
        _refuse_two_colors(picture, ids, assigned & flat, palette, what)
    if not unassigned.any():
        return ids
    ids, unreached = _assign_borders(picture, ids, unassigned, palette)
    _refuse_foreign_area(picture, unreached, palette, what)
    return ids


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


def _match_exactly(picture: NDArray[np.uint8], palette: Palette) -> tuple[ClassIds, NDArray[np.bool_]]:
    """Class ids of the pixels that have a palette color, and ``bool[H, W]``: which pixels have none."""
    packed = pack_colors(picture)
    ids = np.zeros(packed.shape, dtype=np.uint8)
    dirty = np.ones(packed.shape, dtype=np.bool_)
    for class_id, color in enumerate(pack_colors(palette.array)):
        exact = packed == color
        # A class takes its id where ids are still 0: cheaper than assigning through the mask.
        ids |= exact.view(np.uint8) * np.uint8(class_id)
        dirty ^= exact
    return ids, dirty


def _match_nearest(colors: NDArray[np.uint8], palette: Palette) -> tuple[ClassIds, NDArray[np.bool_]]:
    """The nearest class of each color ``uint8[N, 3]``, and whether it is within the palette's tolerance."""
    red, green, blue = np.ascontiguousarray(colors.T, dtype=np.int32)
    nearest = np.zeros(len(colors), dtype=np.uint8)
    least = np.full(len(colors), np.iinfo(np.int32).max, dtype=np.int32)
    # One class at a time keeps the memory at a few planes, however many classes and pixels there are.
    for class_id, (class_red, class_green, class_blue) in enumerate(palette.colors):
        squared = (red - class_red) ** 2 + (green - class_green) ** 2 + (blue - class_blue) ** 2
        np.copyto(nearest, np.uint8(class_id), where=squared < least)
        np.minimum(least, squared, out=least)
    return nearest, least <= palette.tolerance**2


def _possible_blends(
    picture: NDArray[np.uint8], ids: ClassIds, flat: NDArray[np.bool_], palette: Palette
) -> NDArray[np.bool_]:
    """Which pixels ``bool[H, W]`` may owe their class to a blend of two other classes close by.

    Red beside blue, softly drawn, passes through the very purple that is a third class. A purple line
    between red and blue with no flat inside is the one thing this cannot tell from such a border.
    """
    blends = np.zeros_like(flat)
    if not palette.confusable_pairs:
        return blends
    rows, columns = np.nonzero(~flat)
    colors, own = picture[rows, columns], ids[rows, columns]

    @functools.cache
    def close_to(class_id: int) -> NDArray[np.bool_]:
        return _grow(flat & (ids == class_id), BORDER_REACH)[rows, columns]

    for first, second in palette.confusable_pairs:
        between = np.flatnonzero(close_to(first) & close_to(second) & (own != first) & (own != second))
        if len(between):
            off_blend = distance_to_blend(colors[between], palette.array[first], palette.array[second])
            between = between[off_blend <= palette.blend_tolerance]
            blends[rows[between], columns[between]] = True
    return blends


def _grow(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Grow ``bool[H, W]`` by so many pixels in all eight directions."""
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        rows = padded[:-2] | padded[1:-1] | padded[2:]
        mask = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return mask


def _assign_borders(
    picture: NDArray[np.uint8], ids: ClassIds, unassigned: NDArray[np.bool_], palette: Palette
) -> tuple[ClassIds, NDArray[np.bool_]]:
    """Grow the assigned areas over the border pixels, ring by ring; each takes the most similar class beside it.

    Returns the class ids, and the pixels ``bool[H, W]`` beyond `BORDER_REACH`, which keep what they had.
    """
    unowned = -1
    # A frame of unowned pixels spares the neighbors at the rim a special case.
    owners = np.pad(np.where(unassigned, unowned, ids.astype(np.int16)), 1, constant_values=unowned)
    classes = palette.array.astype(np.int32)
    rows, columns = np.nonzero(unassigned)
    for _ in range(BORDER_REACH):
        colors = picture[rows, columns].astype(np.int32)
        chosen = np.full(len(rows), unowned, dtype=np.int16)
        least = np.full(len(rows), np.iinfo(np.int32).max, dtype=np.int32)
        for down, right in _NEIGHBORS:
            beside = owners[rows + 1 + down, columns + 1 + right]
            red, green, blue = (colors - classes[beside]).T
            squared = red**2 + green**2 + blue**2
            closer = (beside != unowned) & (squared < least)
            np.copyto(chosen, beside, where=closer)
            np.copyto(least, squared, where=closer)
        owners[rows + 1, columns + 1] = chosen
        rows, columns = rows[chosen == unowned], columns[chosen == unowned]
        if not len(rows):
            break
    owners = owners[1:-1, 1:-1]
    unreached = owners == unowned
    return np.where(unreached, ids, owners).astype(np.uint8), unreached


def _refuse_foreign_area(picture: NDArray[np.uint8], area: NDArray[np.bool_], palette: Palette, what: str) -> None:
    share = np.count_nonzero(area) / area.size
    if share < FOREIGN_SHARE:
        return
    foreign = picture[area]
    # The most frequent color of the most frequent box: JPEG noise scatters one color over many values.
    _, box_of_pixel, votes = np.unique(pack_colors(foreign) & BOX_MASK, return_inverse=True, return_counts=True)
    colors, counts = np.unique(foreign[box_of_pixel == votes.argmax()], axis=0, return_counts=True)
    red, green, blue = colors[counts.argmax()].tolist()
    raise LabelMapColorError(
        f"the {what} has an area of unknown color (about {hex_code((red, green, blue))}, "
        f"{100 * share:.1f} % of it); the palette is {palette}"
    )


def _refuse_two_colors(
    picture: NDArray[np.uint8], ids: ClassIds, area: NDArray[np.bool_], palette: Palette, what: str
) -> None:
    """Refuse two flat colors that both are nearest to one class: drift moves all of a class, not half of it."""
    exact = exact_colors(picture)
    for class_id in range(len(palette)):
        colors = picture[area & (ids == class_id)]
        if len(colors) < FOREIGN_SHARE * area.size:
            continue
        found = _exact_areas(colors, exact) if exact is not None else _separate_areas(colors)
        shares = [(hex_code(color), count / area.size) for color, count in found]
        large = [f"{code} ({100 * share:.1f} % of it)" for code, share in shares if share >= FOREIGN_SHARE]
        if len(large) > 1:
            raise LabelMapColorError(
                f"the {what} has areas of {' and '.join(large)}, all nearest to {palette.hex_codes[class_id]}: one "
                f"class has one color; the palette is {palette}{_hint_of_ids(picture, palette)}"
            )


def _exact_areas(colors: NDArray[np.uint8], exact: NDArray[np.uint8]) -> list[tuple[tuple[int, int, int], int]]:
    """How many of colors ``uint8[N, 3]`` are each of those of an exact map, most frequent first."""
    packed = pack_colors(colors)
    counted = [(tuple(each.tolist()), int(np.count_nonzero(packed == pack_colors(each)))) for each in exact]
    return sorted(counted, key=lambda pair: -pair[1])


def _separate_areas(colors: NDArray[np.uint8]) -> list[tuple[tuple[int, int, int], int]]:
    """Clusters of colors ``uint8[N, 3]`` that noise does not explain, most frequent first, with their pixels."""
    clusters = color_clusters(colors)
    return [(median_color(colors[cluster]), int(np.count_nonzero(cluster))) for cluster in clusters]


def _hint_of_ids(picture: NDArray[np.uint8], palette: Palette) -> str:
    gray = (picture == picture[..., :1]).all()
    if gray and picture.max() < len(palette):
        return "; it looks like class ids: paint it in the palette's colors, or send the ids as an array"
    return ""


def class_ids_from_image(image: Image.Image, palette: Palette, canvas: Canvas, what: str = "label map") -> ClassIds:
    """A label picture of any Pillow mode as class ids ``uint8[H, W]`` on the canvas.

    Colors are read before the size is fitted, so that resampling never meets a blended color twice.

    Raises:
        ImageError: if the picture was opened lazily and its file is broken.
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
        ImageError: if the file cannot be read.
        LabelMapSizeError: if the proportions do not fit.
        LabelMapColorError: if the colors do not.
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

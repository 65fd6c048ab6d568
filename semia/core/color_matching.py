"""Colors of label maps as classes of a palette.

Maps as programs write them hold the palette's colors and nothing else. Maps as people draw them are
dirty: another tool's green is not quite this one's, soft brushes blend two classes along their border,
JPEG smears both. Three rules read them:

1. A color within the palette's tolerance of a class is that class,
2. unless it lies on a border between two other classes and could be a blend of those.
3. What is left is borders: each pixel takes the more similar of the classes beside it.

What is left after that, far from every class, is no label: an area of it is refused.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from semia.core.errors import LabelMapColorError
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

FOREIGN_SHARE = 0.001  # an area of foreign color is refused from this share of the label map on
BORDER_REACH = 8  # pixels from the areas that a blended border separates: soft brushes and JPEG chroma stay within
_NEIGHBORS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))


def class_ids_from_picture(picture: NDArray[np.uint8], palette: Palette, what: str = "label map") -> NDArray[np.uint8]:
    """Class ids ``uint8[H, W]`` of a label map's colors ``uint8[H, W, 3]``, by the rules at the top of this module.

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


def _match_exactly(picture: NDArray[np.uint8], palette: Palette) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
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


def _match_nearest(colors: NDArray[np.uint8], palette: Palette) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
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
    picture: NDArray[np.uint8], ids: NDArray[np.uint8], flat: NDArray[np.bool_], palette: Palette
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
    picture: NDArray[np.uint8], ids: NDArray[np.uint8], unassigned: NDArray[np.bool_], palette: Palette
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
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
    about = f"about {hex_code(colors[counts.argmax()])}, {100 * share:.1f} % of it"
    raise LabelMapColorError(f"the {what} has an area of unknown color ({about}); the palette is {palette}")


def _refuse_two_colors(
    picture: NDArray[np.uint8], ids: NDArray[np.uint8], area: NDArray[np.bool_], palette: Palette, what: str
) -> None:
    """Refuse two flat colors that both are nearest to one class: drift moves all of a class, not half of it."""
    exact = exact_colors(picture)
    for class_id in range(len(palette)):
        colors = picture[area & (ids == class_id)]
        if len(colors) < FOREIGN_SHARE * area.size:
            continue
        if exact is not None:
            packed = pack_colors(colors)
            counts = [(hex_code(color), np.count_nonzero(packed == pack_colors(color))) for color in exact]
            counts.sort(key=lambda pair: -pair[1])
        else:  # clusters that noise does not explain
            clusters = color_clusters(colors)
            counts = [(hex_code(median_color(colors[each])), np.count_nonzero(each)) for each in clusters]
        shares = [(code, count / area.size) for code, count in counts]
        large = [f"{code} ({100 * share:.1f} % of it)" for code, share in shares if share >= FOREIGN_SHARE]
        if len(large) > 1:
            areas = f"areas of {' and '.join(large)}, all nearest to {palette.hex_codes[class_id]}"
            rule = f"one class has one color; the palette is {palette}{_hint_of_ids(picture, palette)}"
            raise LabelMapColorError(f"the {what} has {areas}: {rule}")


def _hint_of_ids(picture: NDArray[np.uint8], palette: Palette) -> str:
    gray = (picture == picture[..., :1]).all()
    if gray and picture.max() < len(palette):
        return "; it looks like class ids: paint it in the palette's colors, or send the ids as an array"
    return ""

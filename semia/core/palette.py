"""The classes of a scene: one color each, taken from its source label map."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semia.core.errors import LabelMapError

MAX_CLASSES = 256  # class ids travel as uint8
FLAT_TOLERANCE = 12  # a pixel is in a flat area if no channel of its 3x3 neighborhood spans more than this (0-255)
BOX_MASK = np.uint32(0xF8F8F8F8)  # keeps of a packed color its box of 8 levels a channel
MIN_SEPARATION = 32.0  # of palette colors, Euclidean RGB: JPEG noise is smaller, chosen colors are not
MIN_CLASS_SHARE = 0.0002  # a class covers at least this share of a lossy source label map with flat area
MIN_EXACT_PIXELS = 9  # a color that a program wrote is a class from so many pixels on
EXACT_SHARE = 0.999  # where so many of the pixels have such colors, the map is exact: every one of them is a class
MAX_EXACT_COLORS = 4096  # with more different colors, a label map was compressed, scaled, or is none
NOISE_SPAN = 2  # colors that differ by so little in every channel
NOISE_CONTACTS = 0.3  # and touch at this share of their pixels are one with noise
BRIGHTNESS = (299, 587, 114)  # how much of red, green and blue there is in it, in thousandths (ITU-R BT.601)
BLEND_DISTANCE = 3.0  # a line's color this near (Euclidean RGB) to a blend of the two beside it is their soft border
MAX_DRIFT = 80.0  # a target's color may be so far (Euclidean RGB) off: tools disagree about "the same" green


@dataclass(frozen=True)
class Palette:
    """The colors of a scene's classes; a class id is an index into it."""

    colors: tuple[tuple[int, int, int], ...]  # RGB, 0-255
    names: tuple[str, ...] = ()  # one per color, or empty where the scene names none

    def __post_init__(self) -> None:
        if not 1 <= len(self.colors) <= MAX_CLASSES:
            raise LabelMapError(f"a palette has 1 to {MAX_CLASSES} colors, not {len(self.colors)}")
        if len(set(self.colors)) != len(self.colors):
            raise LabelMapError(f"a palette's colors must differ: {self}")
        if self.names and len(self.names) != len(self.colors):
            raise LabelMapError(f"a palette of {len(self.colors)} colors cannot have {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.colors)

    def __str__(self) -> str:
        return ", ".join(self.classes)

    def describe(self, class_id: int) -> str:
        """A class's color and, where it has one, its name."""
        return " ".join([hex_code(self.colors[class_id]), *self.names[class_id : class_id + 1]])

    @property
    def classes(self) -> tuple[str, ...]:
        """What `describe` says of each, in order."""
        return tuple(map(self.describe, range(len(self))))

    @property
    def hex_codes(self) -> tuple[str, ...]:
        """The colors as ``#RRGGBB``."""
        return tuple(hex_code(color) for color in self.colors)

    @classmethod
    def from_hex(cls, codes: list[str], names: list[str] | None = None) -> "Palette":
        """Build a palette from ``#RRGGBB`` codes.

        Raises:
            LabelMapError: if a code is not of that form.
        """
        return cls(tuple(color_from_hex(code) for code in codes), tuple(names or ()))

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """The colors as ``uint8[K, 3]``."""
        return np.array(self.colors, dtype=np.uint8)

    @cached_property
    def tolerance(self) -> float:
        """How far (Euclidean RGB) a color may be from a class's and still mean that class.

        `MAX_DRIFT`, but never more than the distance between the two most similar classes.
        """
        if len(self) == 1:
            return MAX_DRIFT
        colors = self.array.astype(np.float64)
        distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
        return min(MAX_DRIFT, float(distances[np.triu_indices(len(self), 1)].min()))

    @property
    def blend_tolerance(self) -> float:
        """How far (Euclidean RGB) a border pixel may be off the straight line between two classes.

        JPEG at quality 75 needs most of the tolerance; all of it would let near classes pass for blends.
        """
        return 0.75 * self.tolerance

    @cached_property
    def confusable_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of class ids whose blends pass for a third class: red and blue, if there is purple."""
        reach = self.tolerance + self.blend_tolerance
        pairs: list[tuple[int, int]] = []
        for first, second in itertools.combinations(range(len(self)), 2):
            others = np.delete(self.array, (first, second), axis=0)
            if (distance_to_blend(others, self.array[first], self.array[second]) <= reach).any():
                pairs.append((first, second))
        return tuple(pairs)

    def render(self, class_ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Color ``uint8[H, W]`` class ids as ``uint8[H, W, 3]``."""
        return self.array[class_ids]

    def with_names(self, color_of_name: Mapping[str, str]) -> "Palette":
        """The same classes with names given by color, and in the order of the names, as in a scene's ``classes.json``.

        Names of colors that the palette has not are left out: one file may serve several photographs.

        Raises:
            LabelMapError: if a class gets no name, or two.
        """
        names: dict[int, str] = {}
        for name, code in color_of_name.items():
            distances = np.linalg.norm(self.array.astype(np.float64) - np.array(color_from_hex(code)), axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] > self.tolerance:
                continue
            if nearest in names:
                raise LabelMapError(
                    f"classes {names[nearest]!r} and {name!r} both have the color {self.hex_codes[nearest]} of the "
                    "label map: give each class its own color"
                )
            names[nearest] = name
        missing = [self.hex_codes[index] for index in range(len(self)) if index not in names]
        if missing:
            known = ", ".join(f"{code} {name}" for name, code in color_of_name.items())
            raise LabelMapError(f"no class name is given for {', '.join(missing)} of the label map, only for {known}")
        return Palette(tuple(self.colors[index] for index in names), tuple(names.values()))


def hex_code(color: Iterable[int]) -> str:
    """``#RRGGBB`` of an RGB color."""
    return "#{:02X}{:02X}{:02X}".format(*color)


def color_from_hex(code: str) -> tuple[int, int, int]:
    """RGB of a ``#RRGGBB`` code.

    Raises:
        LabelMapError: if the code is not of that form.
    """
    digits = code.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise LabelMapError(f"{code!r} is not a color: write #RRGGBB") from None
    return red, green, blue


def pack_colors(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Colors ``uint8[..., 3]`` as one number each, ``uint32[...]``: compared and counted in one step."""
    packed = np.zeros((*colors.shape[:-1], 4), dtype=np.uint8)
    packed[..., :3] = colors
    return packed.view(np.uint32)[..., 0]


def distance_to_blend(
    colors: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """How far (Euclidean RGB) each of ``uint8[N, 3]`` is from the nearest blend of two colors, as ``float64[N]``."""
    start = first.astype(np.float64)
    span = second - start
    offsets = colors - start
    shares = np.clip(offsets @ span / (span @ span), 0.0, 1.0)
    distances: NDArray[np.float64] = np.linalg.norm(offsets - shares[:, np.newaxis] * span, axis=1)
    return distances


def flat_area(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of ``uint8[H, W, 3]`` lie inside a flat area, as ``bool[H, W]``.

    Borders between classes, however softly drawn, are never flat; only areas are evidence of a class.
    """
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    # Separable: the extremes of three rows, then of three columns of those.
    low = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    high = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    low = np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
    high = np.maximum(np.maximum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
    span = high - low
    # Channel by channel: a reduction over an axis of three is many times slower.
    flat: NDArray[np.bool_] = np.maximum(np.maximum(span[..., 0], span[..., 1]), span[..., 2]) <= FLAT_TOLERANCE
    assert flat.shape == picture.shape[:2], "padding must restore the size"
    return flat


def exact_colors(picture: NDArray[np.uint8], void: NDArray[np.bool_] | None = None) -> NDArray[np.uint8] | None:
    """The colors ``uint8[K, 3]`` of a label map ``uint8[H, W, 3]`` as a program writes it, most frequent first.

    None for a map that was compressed, scaled or softly drawn: its colors are read with tolerance. ``void``,
    ``bool[H, W]``, tells pixels that do not count.
    """
    packed = pack_colors(picture)
    counted = packed if void is None else packed[~void]
    values, counts = np.unique(counted, return_counts=True)
    if len(values) > MAX_EXACT_COLORS:
        return None
    often = counts >= min(MIN_EXACT_PIXELS, counted.size)
    if not 1 <= np.count_nonzero(often) <= MAX_CLASSES:
        return None
    values, counts = values[often], counts[often]
    order = np.argsort(-counts, kind="stable")
    index = _index_of(packed, values, order)
    if void is not None:
        index[void] = -1
    colors, counts = values[order].view(np.uint8).reshape(-1, 4)[:, :3], counts[order]
    contacts = _contacts(index, len(colors))
    if _has_noise(colors, counts, contacts):
        return None
    kept = ~_soft_borders(colors, counts, contacts)
    return colors[kept] if counts[kept].sum() >= EXACT_SHARE * counted.size else None


def _index_of(packed: NDArray[np.uint32], values: NDArray[np.uint32], order: NDArray[np.intp]) -> NDArray[np.int64]:
    """The place of each pixel's color among sorted values, reordered; -1 for other colors."""
    found = np.searchsorted(values, packed).clip(max=len(values) - 1)
    index = np.argsort(order)[found]
    return np.where(values[found] == packed, index, -1)


def _contacts(index: NDArray[np.int64], colors: int) -> NDArray[np.int64]:
    """How often pixels of each two colors lie beside each other, ``int64[K, K]``, symmetric."""
    contacts = np.zeros((colors, colors), dtype=np.int64)
    for first, second in ((index[1:], index[:-1]), (index[:, 1:], index[:, :-1])):
        both = (first >= 0) & (second >= 0)
        pairs = first[both] * colors + second[both]
        contacts += np.bincount(pairs, minlength=colors**2).reshape(colors, colors)
    return contacts + contacts.T


def _has_noise(colors: NDArray[np.uint8], counts: NDArray[np.int64], contacts: NDArray[np.int64]) -> bool:
    wide = colors.astype(np.int16)
    near = np.abs(wide[:, None] - wide[None]).max(axis=-1) <= NOISE_SPAN
    np.fill_diagonal(near, val=False)
    if (near & (contacts > NOISE_CONTACTS * np.maximum(counts[:, None], counts[None]))).any():
        return True
    # Of many levels of noise no two touch often, but all of them touch others more than themselves.
    scattered = (contacts * near).sum(axis=1) > contacts.diagonal()
    return bool(((contacts * near)[:, scattered].sum(axis=1) > contacts.diagonal())[scattered].any())


def _soft_borders(
    colors: NDArray[np.uint8], counts: NDArray[np.int64], contacts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which colors ``bool[K]`` are lines between two others, and blends of those."""
    soft = np.zeros(len(colors), dtype=np.bool_)
    if len(colors) < 3:
        return soft
    for each in range(len(colors)):
        beside = contacts[each].copy()
        beside[each] = 0
        first, second = np.argsort(-beside, kind="stable")[:2]
        if beside[second] < counts[each] / 2 or counts[each] > min(counts[first], counts[second]):
            continue  # an area, not a line; or more of it than of what it would be a blend of
        apart = np.linalg.norm(colors[first].astype(np.float64) - colors[second])
        distance = distance_to_blend(colors[each : each + 1], colors[first], colors[second])[0]
        soft[each] = apart >= MIN_SEPARATION and distance <= BLEND_DISTANCE
    return soft


class FoundPalette(NamedTuple):
    """What a source label map's classes are, and what of it was taken for something else."""

    palette: Palette
    notes: tuple[str, ...]  # a line for each color that is no class although it has an area


def extract_palette(
    picture: NDArray[np.uint8],
    *,
    void: NDArray[np.bool_] | None = None,
    numbers: Mapping[tuple[int, int, int], int] | None = None,
) -> FoundPalette:
    """Find the classes of a source label map ``uint8[H, W, 3]``.

    They are ordered by their numbers, where an exact map has any, else from dark to light: touching a map up, which
    changes areas, then changes no class's id.

    Of an exact map, as programs write them, these are all its colors, however near and small. Of others they are the
    dominant flat colors: anti-aliased and JPEG-blurred borders do not count, only pixels inside flat areas vote, and
    colors nearer than `MIN_SEPARATION` to a more frequent one are that one.

    Args:
        picture: the label map.
        void: ``bool[H, W]``, pixels that are no class.
        numbers: of colors, in the map's own file.

    Raises:
        LabelMapError: if there is no flat color, or there are more than `MAX_CLASSES`.
    """
    if void is not None and void.all():
        raise LabelMapError("the whole label map is void: draw each class in its own color")
    exact = exact_colors(picture, void)
    if exact is not None:
        labeled = picture if void is None else picture[~void]
        colors = _dark_to_light(map(tuple, exact.tolist()))
        if numbers is not None:
            colors = tuple(sorted(colors, key=numbers.__getitem__))
        return FoundPalette(Palette(colors), _left_out(labeled, exact))
    flat = flat_area(picture)
    return _dominant_colors(picture[flat if void is None else flat & ~void], picture.shape[0] * picture.shape[1])


def _left_out(labeled: NDArray[np.uint8], exact: NDArray[np.uint8]) -> tuple[str, ...]:
    """A line for colors of an exact map that are no class."""
    packed = pack_colors(labeled).reshape(-1)
    others = packed[~np.isin(packed, pack_colors(exact))]
    if not len(others):
        return ()
    values, counts = np.unique(others, return_counts=True)
    code = hex_code(values[counts.argmax()].reshape(1).view(np.uint8)[:3])
    several = f" and {len(values) - 1} more colors" if len(values) > 1 else ""
    return (
        f"{len(others)} pixels of {code}{several} are too few for a class, or the soft border "
        "of two: they go to the classes beside them",
    )


def color_clusters(colors: NDArray[np.uint8]) -> Iterator[NDArray[np.bool_]]:
    """Which of colors ``uint8[N, 3]`` are one but for noise, cluster by cluster, each as ``bool[N]``.

    A cluster is all, not claimed before, that is nearer than `MIN_SEPARATION` to the most frequent color left.
    """
    # Vote in boxes of 8 levels a channel, then in clusters of boxes: JPEG noise around one color is one candidate.
    _, first_pixel, box_of_pixel, votes = np.unique(
        pack_colors(colors) & BOX_MASK, return_index=True, return_inverse=True, return_counts=True
    )
    centers = colors[first_pixel] // 8 * 8.0 + 3.5
    unclaimed = np.ones(len(centers), dtype=np.bool_)
    for box in np.argsort(-votes, kind="stable"):
        if unclaimed[box]:
            cluster = unclaimed & (np.linalg.norm(centers - centers[box], axis=1) < MIN_SEPARATION)
            unclaimed &= ~cluster
            yield cluster[box_of_pixel]


def median_color(colors: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Of ``uint8[N, 3]``, channel by channel."""
    red, green, blue = np.median(colors, axis=0).astype(int).tolist()
    return red, green, blue


def _dominant_colors(flat: NDArray[np.uint8], pixels: int) -> FoundPalette:
    """The classes of flat pixels ``uint8[N, 3]`` of a map of so many."""
    colors: list[tuple[int, int, int]] = []
    notes: list[str] = []
    for cluster in color_clusters(flat):
        color, share = median_color(flat[cluster]), np.count_nonzero(cluster) / pixels
        if share >= MIN_CLASS_SHARE:
            colors.append(color)
        else:
            code = hex_code(color)
            notes.append(f"an area of about {code} ({100 * share:.3f} % of the label map) is too small to be a class")
    if not colors:
        raise LabelMapError("the label map has no area of one flat color: draw each class in its own color")
    if len(colors) > MAX_CLASSES:
        raise LabelMapError(f"the label map has {len(colors)} colors; at most {MAX_CLASSES} classes are possible")
    return FoundPalette(Palette(_dark_to_light(colors)), tuple(notes))


def _dark_to_light(colors: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple(sorted(colors, key=lambda color: (np.dot(color, BRIGHTNESS), color)))

"""The classes of a scene: one colour each, taken from its source label map."""

import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semia.core.errors import LabelMapError

MAX_CLASSES = 256
"""Class ids travel as uint8."""

FLAT_TOLERANCE = 12
"""A pixel belongs to a flat area if no channel of its 3x3 neighbourhood spans more than this (0-255)."""

BOX_MASK = np.uint32(0xF8F8F8F8)
"""Keeps of a packed colour its box of 8 levels a channel."""

MIN_SEPARATION = 32.0
"""Two palette colours are at least this far apart (Euclidean RGB): JPEG noise is smaller, chosen colours are not."""

MIN_CLASS_SHARE = 0.0002
"""A class covers at least this share of the source label map with flat area."""

MAX_DRIFT = 80.0
"""A target's colour may be this far (Euclidean RGB) from the palette's: tools disagree about "the same" green."""


@dataclass(frozen=True)
class Palette:
    """The colours of a scene's classes; a class id is an index into it."""

    colours: tuple[tuple[int, int, int], ...]  # RGB, 0-255, most frequent class first
    names: tuple[str, ...] = ()  # one per colour, or empty where the scene names none

    def __post_init__(self) -> None:
        if not 1 <= len(self.colours) <= MAX_CLASSES:
            raise LabelMapError(f"a palette has 1 to {MAX_CLASSES} colours, not {len(self.colours)}")
        if len(set(self.colours)) != len(self.colours):
            raise LabelMapError(f"a palette's colours must differ: {self}")
        if self.names and len(self.names) != len(self.colours):
            raise LabelMapError(f"a palette of {len(self.colours)} colours cannot have {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.colours)

    def __str__(self) -> str:
        labels = self.names or ("",) * len(self)
        return ", ".join(f"{code} {name}".rstrip() for code, name in zip(self.hex_codes, labels, strict=True))

    @property
    def hex_codes(self) -> tuple[str, ...]:
        """The colours as ``#RRGGBB``."""
        return tuple(hex_code(colour) for colour in self.colours)

    @classmethod
    def from_hex(cls, codes: list[str], names: list[str] | None = None) -> "Palette":
        """Build a palette from ``#RRGGBB`` codes.

        Raises:
            LabelMapError: if a code is not of that form.
        """
        return cls(tuple(colour_from_hex(code) for code in codes), tuple(names or ()))

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """The colours as ``uint8[K, 3]``."""
        return np.array(self.colours, dtype=np.uint8)

    @cached_property
    def tolerance(self) -> float:
        """How far (Euclidean RGB) a colour may be from a class's and still mean that class.

        `MAX_DRIFT`, but never more than the distance between the two most similar classes.
        """
        if len(self) == 1:
            return MAX_DRIFT
        colours = self.array.astype(np.float64)
        distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
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
        """Colour ``uint8[H, W]`` class ids as ``uint8[H, W, 3]``."""
        return self.array[class_ids]

    def with_names(self, colour_of_name: dict[str, str]) -> "Palette":
        """The same palette with names given by colour, as in a scene's ``classes.json``.

        Raises:
            LabelMapError: if a colour is missing, or is not the nearest to exactly one class.
        """
        names: dict[int, str] = {}
        for name, code in colour_of_name.items():
            distances = np.linalg.norm(self.array.astype(np.float64) - np.array(colour_from_hex(code)), axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] > self.tolerance or nearest in names:
                raise LabelMapError(f"class {name!r} has colour {code}, which is not in the label map: {self}")
            names[nearest] = name
        missing = [self.hex_codes[index] for index in range(len(self)) if index not in names]
        if missing:
            raise LabelMapError(f"no class name is given for {', '.join(missing)} of the label map")
        return Palette(self.colours, tuple(names[index] for index in range(len(self))))


def hex_code(colour: tuple[int, int, int]) -> str:
    """``#RRGGBB`` of an RGB colour."""
    return "#{:02X}{:02X}{:02X}".format(*colour)


def colour_from_hex(code: str) -> tuple[int, int, int]:
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
        raise LabelMapError(f"{code!r} is not a colour: write #RRGGBB") from None
    return red, green, blue


def read_class_names(path: Path) -> dict[str, str]:
    """Read a scene's ``classes.json``: ``{"sky": "#66CCFF", ...}``.

    Raises:
        LabelMapError: if it is not a JSON object of strings.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelMapError(f"cannot read class names from {path}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(code, str) for code in content.values()):
        raise LabelMapError(f'{path} must be a JSON object of names and colours, like {{"sky": "#66CCFF"}}')
    return content


def pack_colours(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Colours ``uint8[..., 3]`` as one number each, ``uint32[...]``: compared and counted in one step."""
    packed = np.zeros((*colours.shape[:-1], 4), dtype=np.uint8)
    packed[..., :3] = colours
    return packed.view(np.uint32)[..., 0]


def distance_to_blend(
    colours: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """How far (Euclidean RGB) each of ``uint8[N, 3]`` is from the nearest blend of two colours, as ``float64[N]``."""
    start = first.astype(np.float64)
    span = second - start
    offsets = colours - start
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


def extract_palette(picture: NDArray[np.uint8]) -> Palette:
    """Find the classes of a source label map ``uint8[H, W, 3]``: its dominant flat colours.

    Anti-aliased and JPEG-blurred borders do not count: only pixels inside flat areas vote. Colours
    nearer than `MIN_SEPARATION` to a more frequent one are that one.

    Raises:
        LabelMapError: if there is no flat colour, or there are more than `MAX_CLASSES`.
    """
    flat = picture[flat_area(picture)]
    # Vote in boxes of 8 levels a channel, then in clusters of boxes: JPEG noise around one colour is one candidate.
    _, first_pixel, box_of_pixel, votes = np.unique(
        pack_colours(flat) & BOX_MASK, return_index=True, return_inverse=True, return_counts=True
    )
    centres = flat[first_pixel] // 8 * 8.0 + 3.5
    minimum = MIN_CLASS_SHARE * picture.shape[0] * picture.shape[1]
    unclaimed = np.ones(len(centres), dtype=np.bool_)
    colours: list[tuple[int, int, int]] = []
    for box in np.argsort(-votes, kind="stable"):
        if not unclaimed[box]:
            continue
        cluster = unclaimed & (np.linalg.norm(centres - centres[box], axis=1) < MIN_SEPARATION)
        unclaimed &= ~cluster
        if votes[cluster].sum() >= minimum:
            red, green, blue = np.median(flat[cluster[box_of_pixel]], axis=0).astype(int).tolist()
            colours.append((red, green, blue))
    if not colours:
        raise LabelMapError("the label map has no area of one flat colour: draw each class in its own colour")
    if len(colours) > MAX_CLASSES:
        raise LabelMapError(f"the label map has {len(colours)} colours; at most {MAX_CLASSES} classes are possible")
    return Palette(tuple(colours))

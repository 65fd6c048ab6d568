"""Frames, in which arrays travel between page and studio: the length of a JSON head, the head, then bytes."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from semia.core.labels import Canvas, ClassIds
from semia.studio.errors import FrameError

LENGTH = struct.Struct("<I")
MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Frame:
    """What a frame says about itself, and its bytes."""

    head: dict[str, Any]
    body: bytes

    def integer(self, key: str) -> int:
        """A whole number of the head, not negative.

        Raises:
            FrameError: if it is something else, or missing.
        """
        value = self.head.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise FrameError(f"the frame's {key} must be a whole number from 0 on, not {value!r}")
        return value

    def label_map(self, max_side: int) -> ClassIds:
        """The body as class ids ``uint8[H, W]`` of the size that the head says; what they mean is not looked at.

        Raises:
            FrameError: if a side is 0 or above ``max_side``, or there are more or fewer bytes.
        """
        height, width = self.integer("height"), self.integer("width")
        if not (0 < height <= max_side and 0 < width <= max_side and len(self.body) == height * width):
            raise FrameError(f"the frame has {len(self.body)} bytes of class ids for {width}x{height}")
        return np.frombuffer(self.body, np.uint8).reshape(height, width)

    def class_ids(self, canvas: Canvas, classes: int) -> ClassIds:
        """The same of a known size and number of classes.

        Args:
            canvas: the size that they must have.
            classes: how many classes there are.

        Raises:
            FrameError: if size or ids are others.
        """
        ids = self.label_map(max(canvas))
        if ids.shape != canvas:
            raise FrameError(f"the frame's label map is {Canvas(*ids.shape)}, the canvas {canvas} (width x height)")
        if ids.max() >= classes:
            raise FrameError(f"the frame has class id {ids.max()}, but there are {classes} classes, numbered from 0")
        return ids


def pack(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """A frame."""
    text = json.dumps(head).encode()
    return b"".join((LENGTH.pack(len(text)), text, body))


def unpack(data: bytes) -> Frame:
    """The inverse of `pack`.

    Raises:
        FrameError: for anything that `pack` does not make.
    """
    if len(data) < LENGTH.size:
        raise FrameError(f"a frame has at least {LENGTH.size} bytes, not {len(data)}")
    (length,) = LENGTH.unpack_from(data)
    if length > min(MAX_HEAD_BYTES, len(data) - LENGTH.size):
        raise FrameError(f"the frame's head cannot be {length} bytes long")
    end = LENGTH.size + length
    try:
        head = json.loads(data[LENGTH.size : end])
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the frame's head is not JSON: {error}") from error
    if not isinstance(head, dict):
        raise FrameError(f"the frame's head must be a JSON object, not {type(head).__name__}")
    return Frame(head, bytes(data[end:]))

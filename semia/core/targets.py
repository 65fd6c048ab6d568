"""Targets, in every form that a caller may have one, as class ids on a generator's canvas."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core.errors import LabelMapSizeError, LabelMapTypeError
from semia.core.labels import Canvas, ClassIds, class_ids_from_image, read_class_ids
from semia.core.palette import Palette

Target = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""The label map to make a picture for: a picture's path, a picture, RGB ``uint8[H, W, 3]``, or class ids
``uint8[H, W]``."""


def class_ids_from_target(target: Target, palette: Palette, canvas: Canvas, generator: str = "generator") -> ClassIds:
    """A target as class ids ``uint8[H, W]`` on the canvas.

    Pictures may have another size of the same proportions; class ids are taken as they are.

    Args:
        target: the label map.
        palette: the generator's classes.
        canvas: the size of its pictures.
        generator: what messages call it.

    Raises:
        LabelMapTypeError: if the target is none of the forms of `Target`, or an id has no class.
        ImageError: if its picture cannot be read.
        LabelMapSizeError: if it does not fit the canvas.
        LabelMapColorError: if an area has a colour far from every class.
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

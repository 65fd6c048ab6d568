"""Targets, in every form a caller may have one, as class ids on a model's canvas; the model's description."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.client.errors import (
    NotASemiaModelError,
    TargetSizeError,
    TargetTypeError,
    UnknownColourError,
    UnreadableTargetError,
)
from semia.core.errors import ImageError, LabelMapColourError, LabelMapError, LabelMapSizeError
from semia.core.labels import Canvas, ClassIds, class_ids_from_image, read_class_ids
from semia.core.palette import Palette

Target = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""A label map: a picture's path, a picture, RGB ``uint8[H, W, 3]``, or class ids ``uint8[H, W]``."""


@dataclass(frozen=True)
class ModelDescription:
    """Everything needed to draw a label map for a model."""

    name: str
    versions: tuple[str, ...]  # ready to serve, oldest first
    canvas: Canvas  # the size of label maps and pictures
    palette: Palette  # the classes' colours and names
    model_card_sha256: str  # which export this is

    @property
    def latest_version(self) -> str:
        """The version that serves when none is asked for."""
        return self.versions[-1]

    @classmethod
    def from_parameters(cls, name: str, versions: tuple[str, ...], parameters: Mapping[str, str]) -> "ModelDescription":
        """Read the parameters that `semia publish` writes.

        Raises:
            NotASemiaModelError: if one is missing or makes no sense.
        """
        try:
            canvas = Canvas(int(parameters["canvas_height"]), int(parameters["canvas_width"]))
            if min(canvas) < 1:
                raise ValueError(f"canvas {canvas}")
            palette = Palette.from_hex(json.loads(parameters["palette"]), json.loads(parameters["class_names"]))
            return cls(name, versions, canvas, palette, parameters["model_card_sha256"])
        except KeyError as error:
            problem = f"has no parameter {error}"
        except (ValueError, TypeError, AttributeError, LabelMapError) as error:
            problem = f"has parameters that make no sense ({error})"
        raise NotASemiaModelError(
            f"model {name!r} {problem}, so it is not one of semia's: publish it with `semia publish`"
        )


def class_ids_from_target(target: Target, model: ModelDescription) -> ClassIds:
    """A target as class ids ``uint8[H, W]`` on the model's canvas.

    Pictures may have another size of the same proportions; class ids are taken as they are.

    Raises:
        TargetTypeError: if it is none of the forms of `Target`, or an id has no class.
        UnreadableTargetError: if its picture cannot be read.
        TargetSizeError: if it does not fit the canvas.
        UnknownColourError: if an area has a colour far from every class.
    """
    with _translated_errors():
        if isinstance(target, (str, os.PathLike)):
            return read_class_ids(Path(target), model.palette, model.canvas)
        if isinstance(target, Image.Image):
            return class_ids_from_image(target, model.palette, model.canvas, what="target")
        if not isinstance(target, np.ndarray):
            raise TargetTypeError(f"a target is a path, a Pillow picture or a numpy array, not {type(target).__name__}")
        _check_array(target)
        if target.ndim == 3:
            return class_ids_from_image(Image.fromarray(target), model.palette, model.canvas, what="target")
        return _checked_class_ids(target, model)


def _check_array(target: NDArray[Any]) -> None:
    received = f"{target.dtype}{list(target.shape)}"
    if target.ndim != 2 and (target.ndim != 3 or target.shape[2] != 3):
        raise TargetTypeError(f"the target is {received}: give class ids uint8[H, W] or RGB uint8[H, W, 3]")
    if target.dtype != np.uint8:
        raise TargetTypeError(f"the target is {received}, not uint8: convert it with .astype(np.uint8)")
    if not target.size:
        raise TargetSizeError(f"the target is empty: {received}")


def _checked_class_ids(ids: ClassIds, model: ModelDescription) -> ClassIds:
    if ids.shape != model.canvas:
        height, width = ids.shape
        raise TargetSizeError(
            f"the class ids are {width}x{height}, the canvas of model {model.name!r} is {model.canvas} "
            "(width x height), and ids are not resampled"
        )
    if ids.max() >= len(model.palette):
        raise TargetTypeError(
            f"the target has class id {ids.max()}, but model {model.name!r} has {len(model.palette)} classes, "
            f"numbered from 0: {model.palette}"
        )
    return ids


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except LabelMapSizeError as error:
        raise TargetSizeError(str(error)) from error
    except LabelMapColourError as error:
        raise UnknownColourError(str(error)) from error
    except ImageError as error:
        raise UnreadableTargetError(str(error)) from error

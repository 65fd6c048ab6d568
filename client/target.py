"""What a server says about a model, and targets as class ids on its canvas."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from semia.client.errors import (
    NotASemiaModelError,
    TargetSizeError,
    TargetTypeError,
    UnknownColourError,
    UnreadableTargetError,
)
from semia.core.errors import ImageError, LabelMapColourError, LabelMapError, LabelMapSizeError, LabelMapTypeError
from semia.core.labels import Canvas, ClassIds
from semia.core.palette import Palette
from semia.core.targets import Target
from semia.core.targets import class_ids_from_target as read_target


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
    """A target as class ids ``uint8[H, W]`` on the model's canvas, as `semia.core.targets` reads it.

    Raises:
        TargetTypeError: if it is none of the forms of `Target`, or an id has no class.
        UnreadableTargetError: if its picture cannot be read.
        TargetSizeError: if it does not fit the canvas.
        UnknownColourError: if an area has a colour far from every class.
    """
    try:
        return read_target(target, model.palette, model.canvas, f"model {model.name!r}")
    except LabelMapTypeError as error:
        raise TargetTypeError(str(error)) from error
    except LabelMapSizeError as error:
        raise TargetSizeError(str(error)) from error
    except LabelMapColourError as error:
        raise UnknownColourError(str(error)) from error
    except ImageError as error:
        raise UnreadableTargetError(str(error)) from error

"""What a served model says about itself, through its configuration's parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from client.errors import NotASemiaModelError
from semia.errors import LabelMapError
from semia.labels import Canvas
from semia.palette import Palette


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

"""Clicks on an object become its area, by a segmenting network that the user brings: an encoder and a decoder in ONNX.

The files' inputs tell which family they are of, as the families' own export scripts write them:

family               encoder takes                                    decoder takes, besides the points
SAM, MobileSAM       HWC RGB 0 to 255, or [1,3,1024,1024] normalized  image_embeddings, mask_input, has_mask_input, ...
SAM 2                [1,3,1024,1024] normalized, stretched            image_embed and two finer ones, mask_input, ...
EfficientSAM         [1,3,H,W] in 0 to 1                              image_embeddings, batched points, orig_im_size
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core.errors import InputError
from semia.core.images import RGB
from semia.core.labels import Canvas

SIDE = 1024
"""Pixels of the square that SAM and SAM 2 look at."""

MASK_SIDE = 256
"""Of the masks that they answer before anything is scaled."""

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
"""Of ImageNet's RGB, 0 to 255, by which networks' inputs are normalized."""

PADDING_POINT = -1
"""The label of a point that is none: SAM's decoder expects one where there is no box."""

Floats = NDArray[np.float32]


class Click(NamedTuple):
    """A point of the photograph, in pixels, and whether it lies on the object."""

    x: float
    y: float
    inside: bool


def clicks_from_json(content: object) -> list[Click]:
    """The page's ``[[x, y, inside], ...]``.

    Raises:
        InputError: if it is something else, or has no point that is inside.
    """
    if not isinstance(content, list) or not 1 <= len(content) <= 100:
        raise InputError("an object is told by 1 to 100 clicks")
    clicks = []
    for each in content:
        numbers = isinstance(each, list) and len(each) == 3 and all(isinstance(value, int | float) for value in each)
        if not numbers:
            raise InputError(f"a click has x, y and whether it is inside, not {each!r}")
        clicks.append(Click(float(each[0]), float(each[1]), bool(each[2])))
    if not any(click.inside for click in clicks):
        raise InputError("at least one click must be on the object")
    return clicks


class Segmenter:
    """An encoder and a decoder; the photograph is encoded once."""

    def __init__(self, encoder: Any, decoder: Any) -> None:
        """Take two sessions of ONNX Runtime.

        Raises:
            InputError: if their inputs are of no family that is known.
        """
        self._encoder = encoder
        self._decoder = decoder
        self._image = encoder.get_inputs()[0]
        self._outputs = [output.name for output in encoder.get_outputs()]
        self._wanted = [value.name for value in decoder.get_inputs()]
        if "batched_point_coords" in self._wanted:
            self._family = "EfficientSAM"
        elif {"high_res_feats_0", "high_res_feats_1"} <= set(self._wanted):
            self._family = "SAM 2"
        elif {"image_embeddings", "point_coords", "point_labels"} <= set(self._wanted):
            self._family = "SAM"
        else:
            raise InputError(f"the decoder takes {', '.join(self._wanted)}: it is none of SAM, SAM 2 and EfficientSAM")
        self._encoded: tuple[bytes, dict[str, Any]] | None = None

    @classmethod
    def load(cls, encoder: Path, decoder: Path) -> "Segmenter":
        """Read two ONNX files.

        Raises:
            ExportError: if one cannot be loaded.
            InputError: as the constructor.
        """
        from semia.export.session import open_session

        for path in (encoder, decoder):
            if not path.is_file():
                raise InputError(f"no such file: {path}")
        return cls(open_session(encoder), open_session(decoder))

    def mask(self, photograph: RGB, clicks: Sequence[Click]) -> NDArray[np.uint8]:
        """The object's pixels as ``uint8[H, W]`` of 0 and 1.

        Args:
            photograph: ``uint8[H, W, 3]``.
            clicks: at least one of them inside.
        """
        canvas = Canvas(*photograph.shape[:2])
        features = self._features(photograph)
        points = np.array([[click.x, click.y] for click in clicks], np.float32)
        labels = np.array([click.inside for click in clicks], np.float32)
        if self._family == "EfficientSAM":
            given = {
                "batched_point_coords": points[np.newaxis, np.newaxis],
                "batched_point_labels": labels[np.newaxis, np.newaxis],
                "orig_im_size": np.array(canvas, np.int64),
            }
            logits = self._decode(features | given, ("output_masks",))
            return _resized(logits, canvas)
        if self._family == "SAM 2":
            points = points * (SIDE / canvas.width, SIDE / canvas.height)
            shown = Canvas(MASK_SIDE, MASK_SIDE)
        else:
            scale = SIDE / max(canvas)
            points = np.vstack([points * scale, (0, 0)])
            labels = np.append(labels, PADDING_POINT)
            # The picture fills only part of the square: of the mask, only that part is the picture's.
            shown = Canvas(*(max(1, round(MASK_SIDE * side / max(canvas))) for side in canvas))
        given = {
            "point_coords": points[np.newaxis].astype(np.float32),
            "point_labels": labels[np.newaxis].astype(np.float32),
            "mask_input": np.zeros((1, 1, MASK_SIDE, MASK_SIDE), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(canvas, np.float32),
        }
        logits = self._decode(features | given, ("low_res_masks", "masks"))
        return _resized(logits[: shown.height, : shown.width], canvas)

    def _decode(self, feeds: dict[str, Any], names: Sequence[str]) -> Floats:
        """The likeliest mask's logits ``float32[H, W]``."""
        outputs = [output.name for output in self._decoder.get_outputs()]
        name = next((name for name in names if name in outputs), outputs[0])
        scores = next((output for output in outputs if "iou" in output), None)
        answers = self._decoder.run(None, {key: value for key, value in feeds.items() if key in self._wanted})
        found = dict(zip(outputs, answers, strict=True))
        masks = np.asarray(found[name], np.float32).reshape(-1, *found[name].shape[-2:])
        best = 0 if scores is None else int(np.argmax(found[scores].reshape(-1)[: len(masks)]))
        return np.asarray(masks[best], np.float32)

    def _features(self, photograph: RGB) -> dict[str, Any]:
        key = photograph.tobytes()
        if self._encoded is None or self._encoded[0] != key:
            answers = self._encoder.run(None, {self._image.name: self._input(photograph)})
            named = dict(zip(self._outputs, answers, strict=True))
            known = {name: value for name, value in named.items() if name in self._wanted}
            # Some exports name the one output otherwise than the decoder's input.
            self._encoded = key, known or {self._wanted[0]: answers[0]}
        return self._encoded[1]

    def _input(self, photograph: RGB) -> Floats:
        if self._family == "EfficientSAM":
            return _planes(photograph / np.float32(255))
        height, width = photograph.shape[:2]
        if self._family == "SAM 2":
            return _planes((_scaled(photograph, SIDE, SIDE) - MEAN) / DEVIATION)
        scale = SIDE / max(height, width)
        scaled = _scaled(photograph, round(width * scale), round(height * scale))
        if len(self._image.shape) == 3:
            return scaled
        square = np.zeros((SIDE, SIDE, 3), np.float32)
        square[: scaled.shape[0], : scaled.shape[1]] = (scaled - MEAN) / DEVIATION
        return _planes(square)


def _scaled(photograph: RGB, width: int, height: int) -> Floats:
    return np.asarray(Image.fromarray(photograph).resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _planes(pixels: NDArray[Any]) -> Floats:
    """``[H, W, 3]`` as ``float32[1, 3, H, W]``."""
    return np.asarray(np.moveaxis(pixels, -1, 0)[np.newaxis], np.float32, order="C")


def _resized(logits: Floats, canvas: Canvas) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(logits, np.float32))
    resized = np.asarray(image.resize((canvas.width, canvas.height), Image.Resampling.BILINEAR))
    return (resized > 0).astype(np.uint8)

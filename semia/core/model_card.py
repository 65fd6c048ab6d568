"""The model card: what a bundle is, where it comes from, how it was checked; and the bundle that it describes."""

import dataclasses
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from semia.core.errors import InputError
from semia.core.files import check_model_name, sha256_of_file, write_text
from semia.core.labels import Canvas
from semia.core.palette import MIN_SEPARATION, Palette
from semia.core.records import from_json, to_json

DEFAULT_ENGINE_CACHE = PurePosixPath("/var/tmp/semia-tensorrt")  # noqa: S108  # it outlives restarts; nothing in it is secret
"""Where ONNX Runtime keeps the TensorRT engines that it builds, on the server's machine or in its container."""


class Accelerator(StrEnum):
    """Instead of ONNX Runtime's CPU and CUDA kernels as they come."""

    TENSORRT = "tensorrt"
    CUDA = "cuda"
    OPENVINO = "openvino"


MODEL_FILE = "model.onnx"
PLAN_FILE = "model.plan"
CARD_FILE = "model_card.json"
INPUT_NAME = "target_labels"
OUTPUT_NAME = "image"

GeneratorKind = Literal["published", "copying"]
"""Which network paints: the published one, or the one that copies pixels from the photograph."""


Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""What a graph computes in, but for the parts that need float32 in all of them."""


@dataclass(frozen=True)
class TargetParity:
    """How far ONNX Runtime's picture is from PyTorch's for one target, in 8-bit levels."""

    target: str  # file stem of the label map
    max_abs: int  # largest difference of any channel of any pixel, 0-255
    mean_abs: float  # mean over all channels of all pixels, 0-255


@dataclass(frozen=True)
class GraphStage:
    """One stage of the synthesis graph."""

    name: str
    nodes: int
    flops: int  # two for each multiply-add of convolutions and matrix products, at batch 1


@dataclass(frozen=True)
class GraphReport:
    """What model.onnx consists of; constants do not count."""

    operators: dict[str, int]  # nodes by operator type, most frequent first
    stages: tuple[GraphStage, ...]  # in the order in which they run


@dataclass(frozen=True)
class EngineCard:
    """What ``model.plan`` is: a TensorRT engine, good for the GPU and the TensorRT that it was built with."""

    tensorrt: str  # version
    gpu: str  # its name
    compute_capability: str  # of the GPU: "9.0"
    precision: str  # of its arithmetic: the graph's, for its networks are strongly typed
    opt_batch: int  # batch it was tuned for
    max_batch: int  # largest batch it takes; the smallest is 1
    plan_sha256: str  # of model.plan
    parity: tuple[TargetParity, ...]  # its distance from ONNX Runtime's pictures


@dataclass(frozen=True)
class PrecisionCheck:
    """What a lower precision costs and what it brings, beside the fp32 graph of the same generator."""

    psnr: dict[str, float]  # of its picture to fp32's by target, in dB; 99 stands for all above, no difference included
    min_psnr: float  # the least that was allowed, dB
    speedup: float | None  # fp32's median time over its own; None where ONNX Runtime lacked kernels to run it
    faster_share: float | None  # of the turns in which it was the faster of the two, in [0, 1]; None as above
    measured_on: str  # the device that the speed was measured on
    meant_for: Literal["this machine", "another machine"]  # only on the one it is meant for must it be faster
    last_stage_in_float32: bool = False  # for int8, where quantizing the decoder's last stage lowered PSNR too much


@dataclass(frozen=True)
class ModelCard:
    """Everything a bundle says about itself; ``model_card.json`` is this, as JSON."""

    name: str  # the served model's name
    preset: str  # that its training or preparation began as
    canvas_height: int  # pixels
    canvas_width: int  # pixels
    palette: tuple[str, ...]  # #RRGGBB per class id
    class_names: tuple[str, ...]  # one per class id, or empty
    parameters: int  # number of the generator's parameters
    iterations: int | None  # it was trained for; None for one that is prepared, or imported: it was not recorded
    precision: Precision
    opset: int  # ONNX operator set
    generator_sha256: str  # of generator.safetensors
    graph_sha256: str  # of model.onnx
    versions: dict[str, str]  # of semia, torch, onnx and onnxruntime at export
    parity_tolerance: int  # largest allowed max_abs, 0-255
    parity: tuple[TargetParity, ...]  # one per checked target, of the fp32 graph
    exported_at: str  # ISO 8601, UTC
    quality: dict[str, float] | None = None  # quality figures, None where they were not measured
    generator: GeneratorKind = "published"  # cards from before there was another do not say it
    graph: GraphReport | None = None  # None in cards from before it was counted
    engine: EngineCard | None = None  # None where there is no model.plan
    precision_check: PrecisionCheck | None = None  # None for fp32

    def __post_init__(self) -> None:
        check_model_name(self.name)
        if self.canvas_height < 1 or self.canvas_width < 1:
            raise InputError(f"model card {self.name}: impossible canvas {self.canvas}")

    @property
    def canvas(self) -> Canvas:
        """The size of label maps and pictures."""
        return Canvas(self.canvas_height, self.canvas_width)

    def to_palette(self) -> Palette:
        """The classes' colors and names."""
        return Palette.from_hex(list(self.palette), list(self.class_names))

    def to_json(self) -> str:
        """The card as indented JSON."""
        return to_json(self)

    def write(self, path: Path) -> None:
        """Write the card, whole or not at all."""
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> "ModelCard":
        """Read a card.

        Raises:
            InputError: if the file is missing, is not JSON, or lacks or mistypes a field.
        """
        try:
            card = from_json(cls, path.read_text(encoding="utf-8"))
            card.to_palette()
            return card
        except FileNotFoundError:
            raise InputError(f"no model card at {path}") from None
        except (InputError, OSError, ValueError) as error:
            raise InputError(f"{path} is not a model card: {type(error).__name__}: {error}") from error


def changed_classes(before: Palette, after: Palette) -> tuple[str, ...]:
    """What class ids and colors of one version would mean in the next, in words; nothing where they mean the same.

    A class is known by its name, where both versions have names, and by its color. Another name or another color of a
    class changes nothing, nor do new classes behind the others.
    """
    changes = []
    for class_id, color in enumerate(before.colors):
        distances = np.linalg.norm(after.array.astype(np.float64) - color, axis=1)
        same = {int(distances.argmin())} if distances.min() < MIN_SEPARATION / 2 else set[int]()
        same |= {other for other, name in enumerate(after.names) if name in before.names[class_id : class_id + 1]}
        if same - {class_id} or (not same and class_id < len(after)):
            now = after.describe(class_id) if class_id < len(after) else "none"
            changes.append(f"{class_id} was {before.describe(class_id)} and would be {now}")
    return tuple(changes)


@dataclass(frozen=True)
class Bundle(os.PathLike[str]):
    """A folder of ``model.onnx``, ``model_card.json`` and, where there is a TensorRT engine, ``model.plan``.

    A version in a model repository is laid out likewise. Functions that take a path take a bundle too.
    """

    path: Path
    card: ModelCard

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read the card, and make sure that the graph is the one that it describes.

        Raises:
            InputError: if a file is missing, the card cannot be read, or the graph is another.
        """
        bundle = cls(path, ModelCard.read(path / CARD_FILE))
        if not bundle.graph.is_file():
            raise InputError(f"{path} has no {MODEL_FILE}, which its {CARD_FILE} describes: export it again")
        if problem := hash_problem(bundle.graph, bundle.card):
            raise InputError(f"{bundle.graph} {problem}: export it again")
        return bundle

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_FILE

    def with_quality(self, quality: dict[str, float]) -> "Bundle":
        """Write figures of quality into the card; returns the bundle with it."""
        bundle = dataclasses.replace(self, card=dataclasses.replace(self.card, quality=quality))
        bundle.card.write(self.path / CARD_FILE)
        return bundle

    @staticmethod
    def is_bundle(path: Path) -> bool:
        """Whether there is a bundle, or a version of a model repository, at a path."""
        return (path / CARD_FILE).is_file()


def hash_problem(file: Path, card: ModelCard) -> str | None:
    """What a ``model.onnx`` or ``model.plan`` is not, in words that follow its name; None if its hash is the card's."""
    kind, expected = "graph", card.graph_sha256
    if file.name == PLAN_FILE:
        kind, expected = "engine", "of none" if card.engine is None else card.engine.plan_sha256
    sha256 = sha256_of_file(file)
    if sha256 == expected:
        return None
    return f"is not the {kind} its card describes (SHA-256 {sha256[:12]}..., the card says {expected[:12]}...)"

"""TensorRT: from an ONNX graph to an engine. The one place that imports ``tensorrt``.

An engine is made for one GPU and one version of TensorRT, on the machine that will run it. TensorRT is imported
when it is needed, so that everything else works without it. Written for TensorRT 10 and 11: networks are
strongly typed (11 has no others), which means that the graph's own types are the arithmetic's precision.

TensorRT knows no 16-bit integers, and unsigned bytes only at a network's inputs and outputs, where a ``Cast``
must stand. Exported graphs have them there, and in stored tables.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx
import onnx_ir as ir
import torch
from onnxscript.optimizer import fold_constants, remove_unused_nodes

from semia.core.errors import InputError
from semia.core.files import write_bytes
from semia.core.labels import Canvas
from semia.core.model_card import INPUT_NAME
from semia.export.errors import EngineError, TensorRTMissingError

LARGEST_TABLE = 1 << 30  # elements of a table that may be computed beforehand: however large

REQUIREMENTS = (
    "an engine is built on the machine that will run it: one with an NVIDIA GPU, a CUDA build of PyTorch and "
    "`pip install tensorrt` of the version that its Triton has"
)


def tensorrt_model(path: Path) -> onnx.ModelProto:
    """Load ``model.onnx`` and compute what depends on stored tables alone, as ONNX Runtime does when it loads a graph.

    This leaves tables wide, and no operator on narrow ones.
    """
    program = ir.load(path)
    # Exporting folds small tables only.
    fold_constants(program, input_size_limit=LARGEST_TABLE, output_size_limit=LARGEST_TABLE)
    remove_unused_nodes(program)
    model = ir.to_proto(program)
    # What the exporter noted about tensors that are no more.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass(frozen=True)
class BatchProfile:
    """How many label maps an engine takes at once: from 1 on."""

    tuned_for: int = 1  # a caller waits for one picture
    largest: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.tuned_for <= self.largest:
            raise InputError(f"batches {self} are not OPT:MAX with 1 <= OPT <= MAX")

    def __str__(self) -> str:
        return f"{self.tuned_for}:{self.largest}"

    @classmethod
    def parse(cls, text: str) -> "BatchProfile":
        """Read ``OPT:MAX``, or raise an InputError."""
        try:
            tuned_for, largest = map(int, text.split(":"))
        except ValueError:
            raise InputError(f"batches {text!r} are not OPT:MAX, such as {cls()}") from None
        return cls(tuned_for, largest)


@dataclass(frozen=True)
class Machine:
    """Where an engine is built, and so where it runs."""

    tensorrt: str  # version
    gpu: str  # name
    compute_capability: str  # "9.0"

    @property
    def timing_cache(self) -> Path:
        """Where earlier builds on such a machine left what they measured."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "semia" / f"tensorrt-{self.tensorrt}-sm{self.compute_capability.replace('.', '')}.timing"


class BuildObserver(Protocol):
    """Is told how a build goes: in phases, which may lie within each other, each of a number of steps."""

    def start(self, phase: str, steps: int) -> None:
        """A phase begins."""
        ...

    def step(self, phase: str, step: int) -> None:
        """A step of a phase, counted from 0, is done."""
        ...

    def finish(self, phase: str) -> None:
        """A phase is over, with all its steps or without."""
        ...


def this_machine() -> Machine:
    """The machine; a TensorRTMissingError if it has no TensorRT, or PyTorch sees no GPU."""
    version = str(import_tensorrt().__version__)
    if not torch.cuda.is_available():
        raise TensorRTMissingError(f"PyTorch sees no CUDA GPU here; {REQUIREMENTS}")
    major, minor = torch.cuda.get_device_capability()
    return Machine(version, torch.cuda.get_device_name(), f"{major}.{minor}")


def build_plan(
    model: onnx.ModelProto, canvas: Canvas, profile: BatchProfile, timing_cache: Path, observer: BuildObserver
) -> bytes:
    """Build an engine of what `tensorrt_model` gave; returns what goes into ``model.plan``.

    What earlier builds measured is read from the file ``timing_cache``, if it is there, which is then replaced, whole.

    Raises:
        EngineError: if TensorRT refuses the graph or fails; the message has its reason.
        OSError: if the cache's folder cannot be made or written.
    """
    trt = import_tensorrt()
    timing_cache.parent.mkdir(parents=True, exist_ok=True)  # found out before minutes of building
    logger = new_logger(trt)
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # what the bindings make of a builder that is none
        raise EngineError(f"TensorRT {trt.__version__} cannot start here: {logger.last_error}") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise EngineError(f"TensorRT {trt.__version__} cannot take the graph: {_parser_error(parser)}")
    config = builder.create_builder_config()
    # On by default, it would quietly round the factors of float32 products to 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    batches = builder.create_optimization_profile()
    shapes = ((batch, *canvas) for batch in (1, profile.tuned_for, profile.largest))
    batches.set_shape(INPUT_NAME, *shapes)
    if config.add_optimization_profile(batches) < 0:
        raise EngineError(f"TensorRT {trt.__version__} refuses batches {profile}: {logger.last_error}")
    cache = _attach_timing_cache(config, timing_cache)
    monitor = _new_monitor(trt, observer)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise EngineError(f"TensorRT {trt.__version__} cannot build an engine: {logger.last_error}")
    write_bytes(timing_cache, bytes(cache.serialize()))
    return bytes(plan)


def import_tensorrt() -> Any:
    """The package, which has no types; a TensorRTMissingError if it, or its libraries, are not there."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        raise TensorRTMissingError(f"TensorRT cannot be used here ({error}); {REQUIREMENTS}") from error
    return tensorrt


def new_logger(trt: Any) -> Any:
    """A logger with the ``last_error``, for TensorRT's functions give no reason when they fail."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # its base is known only where TensorRT is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "it gave no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last_error = " ".join(message.split())

    return Logger()


def _new_monitor(trt: Any, observer: BuildObserver) -> Any:
    """TensorRT's view of an observer; it ends the build at Ctrl-C, which TensorRT would swallow."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self._notify(lambda: observer.start(phase_name, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._notify(lambda: observer.step(phase_name, step))
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._notify(lambda: observer.finish(phase_name))

        def _notify(self, what: Any) -> None:
            try:
                what()
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()


def _attach_timing_cache(config: Any, path: Path) -> Any:
    """Give a build what earlier ones measured; the cache must outlive the build."""
    stored = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        # Broken, or of another driver: what it holds is only time saved.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _parser_error(parser: Any) -> str:
    if parser.num_errors == 0:
        return "it gave no reason"
    error = parser.get_error(0)
    return f"{error.node_operator()} {error.node_name()!r}: {' '.join(error.desc().split())}"

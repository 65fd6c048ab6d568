"""Sessions of ONNX Runtime in this process, all with the options that our Triton backend uses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplementedByRuntime

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.export.errors import ExportError, NoKernelsError, first_line

CPU_ONLY = ("CPUExecutionProvider",)


def session_options(threads: int) -> Any:
    """How ONNX Runtime's sessions run in our processes: as in our Triton backend, with threads that hardly spin.

    Threads that spin while they wait for work take a core from everything else, such as another session's threads;
    threads that sleep between any two steps of a graph make it take a fifth longer.
    Returns an ``onnxruntime.SessionOptions``, the caller's own. 0 threads: as many as the machine has cores.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    # One block for all that a pass allocates would hold a tenth more memory, and is no faster.
    options.enable_mem_pattern = False
    return options


def open_session(
    model: Path | bytes, options: Any | None = None, providers: Sequence[str | tuple[str, dict[str, str]]] = CPU_ONLY
) -> Any:
    """Load a graph, a ``model.onnx`` or its bytes; returns an ``onnxruntime.InferenceSession``.

    Without options, as many threads run it as the machine has cores. Each node is run by the first of the providers
    that can.

    Raises:
        NoKernelsError: if the providers lack an operator of the graph.
        ExportError: if ONNX Runtime cannot load it for another reason.
    """
    name = model if isinstance(model, Path) else "the exported graph"
    try:
        return onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            session_options(0) if options is None else options,
            providers=[*providers],
        )
    except NotImplementedByRuntime as error:
        raise NoKernelsError(f"ONNX Runtime has no kernels for {name}: {first_line(error)}") from error
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ExportError(f"ONNX Runtime cannot load {name}: {first_line(error)}") from error


class OnnxRenderer:
    """An exported graph as a function from class ids to pictures; threads may share it."""

    def __init__(self, model: Path | bytes, *, threads: int = 0, providers: Sequence[str] = CPU_ONLY) -> None:
        """Load a ``model.onnx``, or its bytes, as `open_session` does; 0 threads: as many as the machine has cores."""
        self._name = model if isinstance(model, Path) else "the exported graph"
        self._session = open_session(model, session_options(threads), providers)

    @property
    def provider(self) -> str:
        """The first provider that is in use."""
        name: str = self._session.get_providers()[0]
        return name

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``, or raise an ExportError."""
        try:
            (pictures,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: target[np.newaxis]})
        except Exception as error:  # as above
            raise ExportError(f"ONNX Runtime cannot run {self._name}: {first_line(error)}") from error
        picture: RGB = pictures[0]
        return picture

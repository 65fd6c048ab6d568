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
    """How ONNX Runtime's sessions run in our processes: as in our Triton backend, with threads that do not spin.

    Threads that spin while they wait for work take a core from everything else, such as another session's threads.

    Args:
        threads: that share the work of one run; 0: as many as the machine has cores.

    Returns:
        An ``onnxruntime.SessionOptions``, the caller's own.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(
    model: Path | bytes, options: Any | None = None, providers: Sequence[str | tuple[str, dict[str, str]]] = CPU_ONLY
) -> Any:
    """Load a graph; returns an ``onnxruntime.InferenceSession``.

    Args:
        model: the ``model.onnx``, or its bytes.
        options: as `session_options` makes them; None: as many threads as the machine has cores.
        providers: what runs it, the first that can each node; by default the CPU.

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
        """Load the graph.

        Args:
            model: the ``model.onnx``, or its bytes.
            threads: CPU threads that share the work of one picture; 0: as many as the machine has cores.
            providers: as `open_session` takes them.

        Raises:
            ExportError: as `open_session`.
        """
        self._name = model if isinstance(model, Path) else "the exported graph"
        self._session = open_session(model, session_options(threads), providers)

    @property
    def provider(self) -> str:
        """The first provider that is in use."""
        name: str = self._session.get_providers()[0]
        return name

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``.

        Raises:
            ExportError: if ONNX Runtime cannot run the graph on it.
        """
        try:
            (pictures,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: target[np.newaxis]})
        except Exception as error:  # as above
            raise ExportError(f"ONNX Runtime cannot run {self._name}: {first_line(error)}") from error
        picture: RGB = pictures[0]
        return picture

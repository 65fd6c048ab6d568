"""An exported generator at work, in ONNX Runtime, in this process: what a server would answer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.export.errors import ExportError, first_line


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


class OnnxRenderer:
    """A ``model.onnx`` as a function from layouts to pictures, on the CPU; threads may share it."""

    def __init__(self, model: Path, *, threads: int = 0) -> None:
        """Load the graph.

        Args:
            model: the ``model.onnx``.
            threads: CPU threads that share the work of one picture; 0: as many as the machine has cores.

        Raises:
            ExportError: if ONNX Runtime cannot.
        """
        self._model = model
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise ExportError(f"ONNX Runtime cannot load {model}: {first_line(error)}") from error

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``.

        Raises:
            ExportError: if ONNX Runtime cannot run the graph on it.
        """
        try:
            (pictures,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: target[np.newaxis]})
        except Exception as error:  # as above
            raise ExportError(f"ONNX Runtime cannot run {self._model}: {first_line(error)}") from error
        picture: RGB = pictures[0]
        return picture

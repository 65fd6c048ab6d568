"""A TensorRT engine at work, through TensorRT's Python interface and PyTorch's GPU memory."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.export.errors import EngineError
from semia.export.tensorrt.build import import_tensorrt, new_logger

DEVICE = "cuda"


class EngineRenderer:
    """A ``model.plan`` as a function from layouts to pictures, on the GPU."""

    def __init__(self, plan: Path) -> None:
        """Load the engine.

        Raises:
            TensorRTMissingError: if this machine has no TensorRT.
            EngineError: if TensorRT cannot load it: it is another GPU's, or another version's.
        """
        trt = import_tensorrt()
        self._logger = new_logger(trt)
        try:
            self._runtime = trt.Runtime(self._logger)
        except (TypeError, RuntimeError) as error:  # what the bindings make of a runtime that is none
            raise EngineError(f"TensorRT {trt.__version__} cannot start here: {self._logger.last_error}") from error
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        # The plan of another version is None, here as in every function of TensorRT that fails.
        self._context: Any = None if self._engine is None else self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT {trt.__version__} cannot load {plan}: {self._logger.last_error}")

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``.

        Raises:
            EngineError: if the engine fails.
        """
        picture: RGB = self.render_batch(target[np.newaxis])[0]
        return picture

    def render_batch(self, targets: ClassIds) -> RGB:
        """Render layouts ``uint8[N, H, W]`` as ``uint8[N, H, W, 3]``.

        Raises:
            EngineError: if the engine fails, or does not take so many.
        """
        context = self._context
        if not context.set_input_shape(INPUT_NAME, targets.shape):
            raise EngineError(f"the engine takes no label maps of {targets.shape}: {self._logger.last_error}")
        # A stream of its own: on the default one TensorRT waits for the whole GPU around every call.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            label_maps = torch.from_numpy(targets.copy()).to(DEVICE)  # PyTorch takes no read-only memory
            pictures = torch.empty(tuple(context.get_tensor_shape(OUTPUT_NAME)), dtype=torch.uint8, device=DEVICE)
            context.set_tensor_address(INPUT_NAME, label_maps.data_ptr())
            context.set_tensor_address(OUTPUT_NAME, pictures.data_ptr())
            if not context.execute_async_v3(stream.cuda_stream):
                raise EngineError(f"the engine cannot run: {self._logger.last_error}")
        stream.synchronize()
        rendered: RGB = pictures.cpu().numpy()
        return rendered

"""What ONNX Runtime may run a served graph on."""

from enum import StrEnum
from pathlib import PurePosixPath

DEFAULT_ENGINE_CACHE = PurePosixPath("/var/tmp/semia-tensorrt")  # noqa: S108  # it outlives restarts; nothing in it is secret
"""Where ONNX Runtime keeps the TensorRT engines that it builds, on the server's machine or in its container."""


class Accelerator(StrEnum):
    """Instead of ONNX Runtime's CPU and CUDA kernels as they come."""

    TENSORRT = "tensorrt"
    CUDA = "cuda"
    OPENVINO = "openvino"

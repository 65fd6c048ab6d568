"""A Python-based backend for the embedded Triton: ONNX Runtime under the C++ backend's name.

Triton runs this file in processes of its own, one per model instance; nothing imports it. It reads the
same keys of config.pbtxt as the C++ ``onnxruntime`` backend of the Triton container, so one model
repository serves on both. It depends on NumPy and ONNX Runtime alone.
"""

import json
import os
from pathlib import Path
from typing import Any

import onnxruntime as ort
import triton_python_backend_utils as pb_utils

GRAPH_OPTIMIZATION = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
"""The C++ backend's meaning of ``optimization.graph.level``; any other level enables everything."""


class TritonPythonModel:
    """One instance of one model version; Triton's name and protocol."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph; whatever this raises, Triton reports as the reason why the model is not served."""
        config: dict[str, Any] = json.loads(args["model_config"])
        graph = Path(args["model_repository"], args["model_version"], config["default_model_filename"] or "model.onnx")
        on_gpu = args["model_instance_kind"] == "GPU"
        providers = _cuda_first(int(args["model_instance_device_id"])) if on_gpu else ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(graph, _session_options(config), providers=providers)
        if on_gpu and self._session.get_providers()[0] != "CUDAExecutionProvider":
            pb_utils.Logger.log_warn(f"{graph}: ONNX Runtime cannot use the GPU here, its CPU provider runs the graph")
        self._input_names = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own, so that a bad one fails alone."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Free the session's memory and threads."""
        del self._session

    def _respond(self, request: Any) -> Any:
        try:
            inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._input_names}
            output_names = request.requested_output_names()
            arrays = self._session.run(output_names, inputs)
            tensors = [pb_utils.Tensor(name, array) for name, array in zip(output_names, arrays, strict=True)]
        except Exception as error:  # whatever one request causes is that request's answer
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _cuda_first(device: int) -> list[Any]:
    """CUDA where this build of ONNX Runtime has it, and the CPU for what CUDA cannot do."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return ["CPUExecutionProvider"]
    ort.preload_dlls()  # CUDA and cuDNN may be installed as Python packages, where the loader does not look
    return [("CUDAExecutionProvider", {"device_id": device}), "CPUExecutionProvider"]


def _session_options(config: dict[str, Any]) -> Any:
    """What config.pbtxt says about threads and optimisation, as the C++ backend reads it."""
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = GRAPH_OPTIMIZATION.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    if _parameter(config, "execution_mode") == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    # Left to itself, ONNX Runtime counts the machine's cores, even those this process may not run on.
    options.intra_op_num_threads = _parameter(config, "intra_op_thread_count") or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = _parameter(config, "inter_op_thread_count")
    return options


def _parameter(config: dict[str, Any], key: str) -> int:
    """An integer of config.pbtxt's ``parameters``; 0, ONNX Runtime's own default, where it is absent."""
    return int(config.get("parameters", {}).get(key, {}).get("string_value", 0))

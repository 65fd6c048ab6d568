"""A Python-based backend for the embedded Triton: ONNX Runtime under the C++ backend's name.

Triton runs this file in processes of its own, one per model instance; nothing imports it. It reads the
same keys of config.pbtxt as the C++ ``onnxruntime`` backend of the Triton container, so one model
repository serves on both. It depends on NumPy and ONNX Runtime alone.
"""

import ctypes
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

GRAPH_OPTIMIZATION = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
"""The C++ backend's meaning of ``optimization.graph.level``; any other level enables everything."""

GPU = "cuda"  # ONNX Runtime's name of a GPU's memory
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": CUDA, "openvino": "OpenVINOExecutionProvider"}
"""The execution accelerators that the C++ backend knows, by their names in config.pbtxt."""

PRECISION_FLAGS = {"FP32": None, "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
"""What its ``precision_mode`` becomes; other keys of TensorRT get a prefix at most."""

LABELS, PALETTE = "target_labels", "palette"
"""The input that holds class ids, and the key of config.pbtxt's ``parameters`` that has a color for every class."""

ELEMENT_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
}
"""Types of tensors that memory can be set aside for."""


class AcceleratorError(RuntimeError):
    """What config.pbtxt asks for is beyond this ONNX Runtime, or this machine."""


class UnknownClassError(ValueError):
    """A label map has a class that the model has not."""


class TritonPythonModel:
    """One instance of one model version; Triton's name and protocol."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph; whatever this raises, Triton reports as the reason why the model is not served."""
        config: dict[str, Any] = json.loads(args["model_config"])
        graph = Path(args["model_repository"], args["model_version"], config["default_model_filename"] or "model.onnx")
        device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        self._input_names = [tensor["name"] for tensor in config["input"]]
        palette = config.get("parameters", {}).get(PALETTE)
        self._classes = None if palette is None else len(json.loads(palette["string_value"]))
        self._graph = _open(graph, config, device)
        # Requests that come together are answered side by side: most of a picture's time not all cores have work.
        # A GPU does one thing after the other.
        self._workers = _threads(config) if device is None else 1
        self._pool = ThreadPoolExecutor(self._workers)
        self._running: set[Future[None]] = set()
        # What optimizing the graph took and gave back would otherwise stay with this process:
        # 300 of 400 MB for a generator that stores its tables packed.
        ctypes.CDLL(None).malloc_trim(0)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer each request on its own, so that a bad one fails alone.

        A request that comes alone is answered right here. Those that come together, or while others are being answered,
        are each answered as soon as their picture is there; this returns when the next could be begun, so that Triton
        hands it over before the slowest of a batch is done. On two cores that makes a tenth more pictures for eight
        callers, and Triton's statistics, which end a request's time when this returns, are still about right.
        """
        self._running = {answer for answer in self._running if not answer.done()}
        if len(requests) == 1 and not self._running:
            return [self._respond(requests[0])]
        for request in requests:
            self._running.add(self._pool.submit(self._send_answer, request, request.get_response_sender()))
            if len(self._running) == self._workers:
                self._running = wait(self._running, return_when=FIRST_COMPLETED).not_done
        return None

    def finalize(self) -> None:
        """Free the session's memory and threads, once all that was asked is answered."""
        self._pool.shutdown()
        del self._graph

    def _send_answer(self, request: Any, sender: Any) -> None:
        """Answer a request that came with others, and may have waited for them while its caller went away.

        One that came alone was still wanted when Triton handed it on; asking Triton takes 0.2 ms.
        """
        if request.is_cancelled():
            response = _refusal("the caller has gone", pb_utils.TritonError.CANCELLED)
        else:
            response = self._respond(request)
        try:
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception as error:  # it would not be reported otherwise
            pb_utils.Logger.log_error(f"an answer could not be sent: {error}")

    def _respond(self, request: Any) -> Any:
        try:
            inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._input_names}
            self._check_classes(inputs)
            arrays = self._graph.run(inputs)
            tensors = [pb_utils.Tensor(name, arrays[name]) for name in request.requested_output_names()]
        except UnknownClassError as error:
            return _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # whatever one request causes is that request's answer
            return _refusal(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _check_classes(self, inputs: Mapping[str, Any]) -> None:
        """Refuse ids beyond the palette, which a graph on a GPU would not notice."""
        if self._classes is None or LABELS not in inputs:
            return
        largest = int(inputs[LABELS].max(initial=0))
        if largest >= self._classes:
            raise UnknownClassError(
                f"{LABELS} has class id {largest}, and the model has {self._classes} classes, "
                f"0 to {self._classes - 1}: send indices into the palette of its configuration"
            )


def _refusal(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


@dataclass(frozen=True)
class Binding:
    """Where one size of batch goes in and comes out, fixed for good: a recorded CUDA graph keeps the addresses."""

    io: Any  # ONNX Runtime's IOBinding
    options: Any  # its RunOptions; None where it needs none, for reading them takes longer than binding
    inputs: dict[str, Any]  # OrtValues on the GPU by name; none on the CPU, which reads the requests' own memory
    outputs: dict[str, Any]  # OrtValues on the GPU or arrays by name; None for one that only the graph can size
    moving: tuple[str, ...]  # the names of those


class BoundGraph:
    """A session that reads and writes memory set aside for each size of batch."""

    def __init__(self, session: Any, device: int | None, *, record: bool = False) -> None:
        """Bind nothing yet; the ``InferenceSession`` runs on a GPU of this number, None: on the CPU."""
        self.session = session
        self._device = device
        self._memory = ("cpu", 0) if device is None else (GPU, device)
        self._record = record
        self._bindings: dict[tuple[Any, ...], Binding] = {}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the graph on one request's arrays; the outputs' are good until the same thread runs it again."""
        # What a GPU wrote is copied out at once, so that its memory serves every thread.
        thread = threading.get_ident() if self._device is None else 0
        key = (*((name, array.shape) for name, array in inputs.items()), thread)
        if (binding := self._bindings.get(key)) is None:
            binding = self._bindings[key] = self._bind(inputs)
        for name, array in inputs.items():
            if self._device is None:
                binding.io.bind_cpu_input(name, array)
            else:
                binding.inputs[name].update_inplace(array)
        for name in binding.moving:
            binding.io.bind_output(name, *self._memory)  # anew, or it would have to be as large as before
        self.session.run_with_iobinding(binding.io, binding.options)
        if self._device is None and not binding.moving:
            return binding.outputs
        return dict(zip(binding.outputs, binding.io.copy_outputs_to_cpu(), strict=True))

    def _bind(self, inputs: Mapping[str, Any]) -> Binding:
        io = self.session.io_binding()
        on_gpu = {}
        for name, array in inputs.items() if self._device is not None else ():
            on_gpu[name] = self._on_gpu(array.shape, array.dtype)
            io.bind_ortvalue_input(name, on_gpu[name])
        batch = next(iter(inputs.values())).shape[0]
        outputs = {output.name: self._bind_output(io, output, batch) for output in self.session.get_outputs()}
        moving = tuple(name for name, value in outputs.items() if value is None)
        options = None
        if self._record:
            # Each size has a recording of its own; -1: none, for outputs that move cannot be recorded.
            options = ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(-1 if moving else len(self._bindings) + 1))
        return Binding(io, options, on_gpu, outputs, moving)

    def _bind_output(self, io: Any, output: Any, batch: int) -> Any:
        # Only the first dimension may be open: it is the batch.
        shape = [batch if index == 0 and isinstance(size, str) else size for index, size in enumerate(output.shape)]
        if output.type not in ELEMENT_TYPES or not all(isinstance(size, int) for size in shape):
            io.bind_output(output.name, *self._memory)
            return None
        dtype = ELEMENT_TYPES[output.type]
        if self._device is None:
            array = np.empty(shape, dtype)
            io.bind_output(output.name, "cpu", 0, dtype, shape, array.ctypes.data)
            return array
        value = self._on_gpu(shape, dtype)
        io.bind_ortvalue_output(output.name, value)
        return value

    def _on_gpu(self, shape: Any, dtype: Any) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype), GPU, self._device)


def _open(graph: Path, config: dict[str, Any], device: int | None) -> BoundGraph:
    """Load a graph and have it run as config.pbtxt says, or raise an `AcceleratorError`."""
    accelerators = _accelerators(config, device)
    graphs = config.get("optimization", {}).get("cuda", {}).get("graphs", False)
    if device is not None and "tensorrt" not in accelerators and graphs:
        try:
            bound = BoundGraph(_load(graph, config, accelerators, device, record=True), device, record=True)
            bound.run(_zeros(bound.session))
            return bound
        except AcceleratorError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            reason = str(error).splitlines()[0]
            pb_utils.Logger.log_warn(f"{graph}: runs without CUDA graphs, which cannot be recorded: {reason}")
    session = _load(graph, config, accelerators, device, record=False)
    if device is not None and CUDA not in session.get_providers():
        pb_utils.Logger.log_warn(f"{graph}: ONNX Runtime cannot use the GPU here, its CPU provider runs the graph")
        device = None
    return BoundGraph(session, device)


def _accelerators(config: dict[str, Any], device: int | None) -> dict[str, dict[str, str]]:
    """The execution accelerators that config.pbtxt asks for, with their parameters as it spells them."""
    asked = config.get("optimization", {}).get("execution_accelerators", {})
    found = {}
    for kind, known in (("gpu", {"tensorrt", "cuda"}), ("cpu", {"openvino"})):
        for accelerator in asked.get(f"{kind}_execution_accelerator", []):
            name = accelerator["name"]
            if name not in known:
                raise AcceleratorError(
                    f"unknown {kind.upper()} execution accelerator {name!r}: {', '.join(sorted(known))}"
                )
            if kind == "gpu" and device is None:
                raise AcceleratorError(f"execution accelerator {name!r} needs a GPU, and this instance runs on the CPU")
            found[name] = accelerator.get("parameters", {})
    return found


def _load(
    graph: Path, config: dict[str, Any], accelerators: dict[str, dict[str, str]], device: int | None, *, record: bool
) -> Any:
    """An ``InferenceSession`` with every accelerator at work."""
    for name in accelerators:
        if PROVIDERS[name] not in ort.get_available_providers():
            raise AcceleratorError(
                f"execution accelerator {name!r} needs {PROVIDERS[name]}, which this ONNX Runtime {ort.__version__} "
                f"does not have (it has {', '.join(ort.get_available_providers())})"
            )
    providers = _providers(accelerators, device, record=record)
    try:
        # With its fallback it would go on without the accelerator.
        session = ort.InferenceSession(graph, _session_options(config), providers=providers, enable_fallback=0)
    except Exception as error:  # as above
        if record or not accelerators:
            raise  # a recording is done without; a graph may be broken
        asked = ", ".join(accelerators)
        raise AcceleratorError(f"the graph cannot be loaded with execution accelerator {asked}: {error}") from error
    for name in accelerators:
        if PROVIDERS[name] not in session.get_providers():
            raise AcceleratorError(
                f"execution accelerator {name!r} cannot be used here: ONNX Runtime {ort.__version__} could not load "
                f"{PROVIDERS[name]} or what it needs (its own messages are in the log)"
            )
    return session


def _providers(accelerators: dict[str, dict[str, str]], device: int | None, *, record: bool) -> list[Any]:
    """ONNX Runtime's providers, first choice first; the last, the CPU, takes whatever the others cannot do."""
    chain: list[Any] = []
    if "tensorrt" in accelerators:
        chain.append((PROVIDERS["tensorrt"], _tensorrt_options(accelerators["tensorrt"]) | {"device_id": str(device)}))
    if device is not None and CUDA in ort.get_available_providers():
        ort.preload_dlls()  # CUDA and cuDNN may be installed as Python packages, where the loader does not look
        graphs = {"enable_cuda_graph": "1"} if record else {}
        chain.append((CUDA, accelerators.get("cuda", {}) | graphs | {"device_id": str(device)}))
    if "openvino" in accelerators:
        chain.append((PROVIDERS["openvino"], {"device_type": "CPU"}))
    return [*chain, CPU]


def _tensorrt_options(parameters: dict[str, str]) -> dict[str, str]:
    """The C++ backend's keys as the provider spells them, which refuses those that it does not know."""
    options = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in PRECISION_FLAGS:
                raise AcceleratorError(f"unsupported precision_mode {value!r}: {', '.join(PRECISION_FLAGS)}")
            if (flag := PRECISION_FLAGS[value]) is not None:
                options[flag] = "1"
        elif key == "max_workspace_size_bytes":
            options["trt_max_workspace_size"] = value
        else:
            options[key if key.startswith("trt_") else f"trt_{key}"] = value
    return options


def _zeros(session: Any) -> dict[str, Any]:
    """One request of the smallest size."""
    return {
        value.name: np.zeros([size if isinstance(size, int) else 1 for size in value.shape], ELEMENT_TYPES[value.type])
        for value in session.get_inputs()
    }


def _session_options(config: dict[str, Any]) -> Any:
    """What config.pbtxt says about threads and optimization, as the C++ backend reads it."""
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = GRAPH_OPTIMIZATION.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    if _parameter(config, "execution_mode") == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.intra_op_num_threads = _threads(config)
    options.inter_op_num_threads = _parameter(config, "inter_op_thread_count")
    # Threads that spin while they wait for work take the cores from Triton and whatever else runs here: on two cores
    # beside other programs, pictures took two to four times as long. 50 us bridge most gaps between steps of a graph.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    # One block for all that a pass allocates would hold a tenth more memory, and is no faster.
    options.enable_mem_pattern = False
    return options


def _threads(config: dict[str, Any]) -> int:
    """CPU threads of the instance: left to itself, ONNX Runtime counts cores that this process may not run on, too."""
    return _parameter(config, "intra_op_thread_count") or len(os.sched_getaffinity(0))


def _parameter(config: dict[str, Any], key: str) -> int:
    """An integer of config.pbtxt's ``parameters``; 0, ONNX Runtime's own default, where it is absent."""
    return int(config.get("parameters", {}).get(key, {}).get("string_value", 0))

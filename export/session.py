"""Sessions of ONNX Runtime in this process, all with the options that our Triton backend uses."""

import collections
import json
import tempfile
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


class BoundSession:
    """A session with label maps and pictures in memory of their own, on the GPU where there is one."""

    def __init__(self, model: Path, device: str, *, record: bool = False, profile: Path | None = None) -> None:
        """Load a ``model.onnx`` on ``cuda``, which may record CUDA graphs, or ``cpu``.

        Profiles' names begin with ``profile``; None profiles nothing.
        """
        options = session_options(0)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        providers: list[Any] = ["CPUExecutionProvider"]
        if device == "cuda":
            chosen = {"use_tf32": "0"} | ({"enable_cuda_graph": "1"} if record else {})
            providers = [("CUDAExecutionProvider", chosen), *providers]
        self._model, self._device = model, device
        self._session = open_session(model, options, providers)
        self._bound: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}

    def __call__(self, ids: ClassIds) -> RGB:
        """Draw ``uint8[N, H, W]`` as ``uint8[N, H, W, 3]``."""
        if ids.shape not in self._bound:
            self._bound[ids.shape] = self._bind(ids.shape)
        binding, inputs, outputs = self._bound[ids.shape]
        inputs.update_inplace(np.ascontiguousarray(ids))
        self._session.run_with_iobinding(binding)
        pictures: RGB = outputs.numpy()
        return pictures

    def _bind(self, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """A binding, and the label maps and pictures bound."""
        inputs, outputs = (
            onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(each), np.uint8, self._device, 0)
            for each in (shape, (*shape, 3))
        )
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT_NAME, inputs)
        binding.bind_ortvalue_output(OUTPUT_NAME, outputs)
        return binding, inputs, outputs

    def nodes_by_provider(self, ids: ClassIds) -> dict[str, Any]:
        """How many of the graph's nodes each provider runs, and which operators the CPU has beside a GPU."""
        with tempfile.TemporaryDirectory() as folder:
            profiled = BoundSession(self._model, self._device, profile=Path(folder) / "profile")
            profiled(ids[np.newaxis])
            events = json.loads(Path(profiled._session.end_profiling()).read_text(encoding="utf-8"))
        nodes = [each["args"] for each in events if each.get("cat") == "Node" and "provider" in each.get("args", {})]
        counts: dict[str, Any] = dict(collections.Counter(node["provider"] for node in nodes))
        if self._device == "cuda":
            on_cpu = sorted(node["op_name"] for node in nodes if node["provider"].startswith("CPU"))
            counts["operators_on_cpu"] = dict(collections.Counter(on_cpu))
        return counts

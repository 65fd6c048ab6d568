"""ONNX Runtime with the memory of label maps and pictures set aside beforehand, as our Triton backend runs it."""

import collections
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.export.session import open_session, session_options


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

"""The Python-based backend reads config.pbtxt as the C++ backend does; serving with it is test_server's."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serving.embedded import ONNXRUNTIME_BACKEND


@pytest.fixture
def warnings_logged() -> list[str]:
    return []


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, warnings_logged: list[str]) -> ModuleType:
    """The backend's module, with the few names of Triton's that it uses."""
    utils = SimpleNamespace(
        Logger=SimpleNamespace(log_warn=warnings_logged.append),
        get_input_tensor_by_name=lambda request, name: request.inputs[name],
        Tensor=lambda name, array: (name, array),
        TritonError=str,
        InferenceResponse=SimpleNamespace,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    spec = importlib.util.spec_from_file_location("onnxruntime_backend", ONNXRUNTIME_BACKEND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(**values: object) -> dict[str, Any]:
    return {"parameters": {key: {"string_value": str(value)} for key, value in values.items()}}


def request_for(ids: object) -> SimpleNamespace:
    tensor = SimpleNamespace(as_numpy=lambda: ids)
    return SimpleNamespace(inputs={"target_labels": tensor}, requested_output_names=lambda: ["image"])


def test_threads_default_to_the_cores_this_process_may_use(backend: ModuleType) -> None:
    options = backend._session_options({})
    assert options.intra_op_num_threads == len(os.sched_getaffinity(0))
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_the_cpp_backends_keys_are_obeyed(backend: ModuleType) -> None:
    config = parameters(intra_op_thread_count=3, inter_op_thread_count=2, execution_mode=1)
    options = backend._session_options(config | {"optimization": {"graph": {"level": -1}}})
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC


def test_a_bad_request_fails_alone_and_a_gpu_that_is_none_is_reported(
    backend: ModuleType, warnings_logged: list[str], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (tmp_path / "1").symlink_to(tiny_bundle)
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps({"input": [{"name": "target_labels"}], "default_model_filename": ""}),
            "model_repository": str(tmp_path),
            "model_version": "1",
            "model_instance_kind": "GPU",
            "model_instance_device_id": "0",
        }
    )
    assert len(warnings_logged) == 1
    assert "cannot use the GPU" in warnings_logged[0]
    blue, foreign = (np.full((1, 48, 64), class_id, np.uint8) for class_id in (2, 3))
    good, bad, again = model.execute([request_for(ids) for ids in (blue, foreign, blue)])
    assert "out of data bounds" in bad.error
    for response in (good, again):
        ((name, image),) = response.output_tensors
        assert name == "image"
        assert image.dtype == np.uint8
        assert (image == (0, 0, 255)).all()
    model.finalize()

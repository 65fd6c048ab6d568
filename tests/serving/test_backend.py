"""The Python-based backend reads config.pbtxt as the C++ backend does; serving with it is test_server's."""

import importlib.util
import json
import os
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from semia.core.palette import Palette
from semia.serving.triton.embedded import ONNXRUNTIME_BACKEND


class TritonError(str):
    """The message alone, as Triton's: str with codes."""

    INVALID_ARG, INTERNAL, CANCELLED = "INVALID_ARG", "INTERNAL", "CANCELLED"
    code: str

    def __new__(cls, message: str, code: str) -> "TritonError":
        error = super().__new__(cls, message)
        error.code = code
        return error


@pytest.fixture
def warnings_logged() -> list[str]:
    return []


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, warnings_logged: list[str]) -> ModuleType:
    """The backend's module, with the few names of Triton's that it uses."""
    utils = SimpleNamespace(
        Logger=SimpleNamespace(log_warn=warnings_logged.append, log_error=warnings_logged.append),
        get_input_tensor_by_name=lambda request, name: request.inputs[name],
        Tensor=lambda name, array: (name, array),
        TritonError=TritonError,
        InferenceResponse=SimpleNamespace,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
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


class Request:
    """One of Triton's requests, with the answer that was sent to it."""

    def __init__(self, ids: object, *, cancelled: bool = False, refuses: bool = False) -> None:
        self.inputs = {"target_labels": SimpleNamespace(as_numpy=lambda: ids)}
        self._cancelled, self._refuses = cancelled, refuses
        self._sent: queue.Queue[Any] = queue.Queue()

    def requested_output_names(self) -> list[str]:
        return ["image"]

    def is_cancelled(self) -> bool:
        return self._cancelled

    def get_response_sender(self) -> "Request":
        return self

    def send(self, response: Any, flags: int) -> None:
        assert flags == 1, "Triton would wait for more"
        if self._refuses:
            raise RuntimeError("nobody listens")
        # Triton takes a copy; whoever sends it next may write over it.
        copied = [(name, array.copy()) for name, array in getattr(response, "output_tensors", [])]
        self._sent.put(SimpleNamespace(**vars(response) | {"output_tensors": copied}))

    def answer(self) -> Any:
        return self._sent.get(timeout=30)


def answers(model: Any, requests: list[Request]) -> list[Any]:
    """The answers to requests that come together."""
    assert model.execute(requests) is None
    return [request.answer() for request in requests]


def load(
    backend: ModuleType,
    bundle: Path,
    folder: Path,
    *,
    kind: str = "CPU",
    optimization: dict[str, Any] | None = None,
    palette: str | None = None,
) -> Any:
    """An initialized instance that serves a bundle's graph."""
    (folder / "1").symlink_to(bundle)
    config = {"input": [{"name": "target_labels"}], "default_model_filename": "", "optimization": optimization or {}}
    if palette is not None:
        config |= parameters(palette=palette)
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": str(folder),
            "model_version": "1",
            "model_instance_kind": kind,
            "model_instance_device_id": "0",
        }
    )
    return model


def accelerator(kind: str, name: str, **parameters: str) -> dict[str, Any]:
    entry = {"name": name, "parameters": parameters}
    return {"execution_accelerators": {f"{kind}_execution_accelerator": [entry]}}


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
    model = load(backend, tiny_bundle, tmp_path, kind="GPU")
    assert len(warnings_logged) == 1
    assert "cannot use the GPU" in warnings_logged[0]
    blue, foreign = (np.full((1, 48, 64), class_id, np.uint8) for class_id in (2, 3))
    good, bad, again = answers(model, [Request(ids) for ids in (blue, foreign, blue)])
    assert "out of data bounds" in bad.error
    for response in (good, again):
        ((name, image),) = response.output_tensors
        assert name == "image"
        assert image.dtype == np.uint8
        assert (image == (0, 0, 255)).all()
    model.finalize()


def test_a_class_beyond_the_palette_is_the_callers_mistake(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path
) -> None:
    model = load(backend, tiny_bundle, tmp_path, palette='["#FF0000", "#00FF00"]')
    known, foreign, none = (
        np.full((batch, 48, 64), class_id, np.uint8) for batch, class_id in ((1, 1), (2, 2), (0, 0))
    )
    foreign[0] = 0
    good, bad, empty = answers(model, [Request(ids) for ids in (known, foreign, none)])
    assert (good.output_tensors[0][1] == (0, 255, 0)).all()
    assert bad.error.startswith("target_labels has class id 2, and the model has 2 classes, 0 to 1")
    assert bad.error.code == "INVALID_ARG"
    assert empty.output_tensors[0][1].shape == (0, 48, 64, 3)


def test_what_nobody_waits_for_is_not_computed(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(backend, tiny_bundle, tmp_path)
    ids, run, runs = np.zeros((1, 48, 64), np.uint8), model._graph.run, []

    def count(inputs: Any) -> Any:
        runs.append(inputs)
        return run(inputs)

    monkeypatch.setattr(model._graph, "run", count)
    gone, good = answers(model, [Request(ids, cancelled=True), Request(ids)])
    assert good.output_tensors
    assert gone.error.code == "CANCELLED"
    assert len(runs) == 1


def test_a_lone_request_is_answered_before_triton_hands_over_the_next(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Or Triton's statistics would have nothing of the time that it took."""
    model = load(backend, tiny_bundle, tmp_path)
    (response,) = model.execute([Request(np.zeros((1, 48, 64), np.uint8))])
    assert (response.output_tensors[0][1] == (255, 0, 0)).all()


def test_the_slowest_of_a_batch_keeps_nobody_waiting(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # as many workers
    model = load(backend, tiny_bundle, tmp_path)
    run, may_end, begun = model._graph.run, threading.Event(), threading.Semaphore(0)

    def hold(inputs: Any) -> Any:
        if inputs["target_labels"][0, 0, 0] == 1:
            begun.release()
            assert may_end.wait(30)
        return run(inputs)

    monkeypatch.setattr(model._graph, "run", hold)
    slow, quick, alone = (Request(np.full((1, 48, 64), class_id, np.uint8)) for class_id in (1, 0, 0))
    assert model.execute([slow, quick]) is None
    assert begun.acquire(timeout=30)
    assert (quick.answer().output_tensors[0][1] == (255, 0, 0)).all()
    assert model.execute([alone]) is None, "beside what is running, on a worker"
    assert (alone.answer().output_tensors[0][1] == (255, 0, 0)).all()

    others = [Request(np.full((1, 48, 64), 1, np.uint8)) for _ in range(model._workers - 1)]
    with ThreadPoolExecutor(1) as triton:
        full = triton.submit(model.execute, others)
        time.sleep(0.1)
        assert not full.done(), "what no worker could begin is Triton's to keep"
        may_end.set()
        assert full.result(timeout=30) is None
    for request in (slow, *others):
        assert (request.answer().output_tensors[0][1] == (0, 255, 0)).all()


def test_an_answer_that_cannot_be_sent_is_logged(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path, warnings_logged: list[str]
) -> None:
    model = load(backend, tiny_bundle, tmp_path)
    ids = np.zeros((1, 48, 64), np.uint8)
    lost, good = Request(ids, refuses=True), Request(ids)
    assert model.execute([lost, good]) is None
    assert good.answer().output_tensors
    model.finalize()
    assert warnings_logged == ["an answer could not be sent: nobody listens"]


def test_requests_answered_together_do_not_share_memory(
    backend: ModuleType, tiny_bundle: Path, tiny_palette: Palette, tmp_path: Path
) -> None:
    model = load(backend, tiny_bundle, tmp_path)
    layouts = [np.full((batch, 48, 64), class_id, np.uint8) for class_id, batch in ((0, 1), (1, 1), (2, 3), (0, 3))]
    for _ in range(2):
        for ids, response in zip(layouts, answers(model, [Request(ids) for ids in layouts]), strict=True):
            ((_, image),) = response.output_tensors
            assert np.array_equal(image, tiny_palette.array[ids])


def test_a_gpus_way_of_binding_gives_the_same_pictures(
    backend: ModuleType,
    tiny_bundle: Path,
    tiny_palette: Palette,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run in this machine's memory: where the tensors lie is all that differs on a GPU."""
    monkeypatch.setattr(backend, "GPU", "cpu")
    session = ort.InferenceSession(tiny_bundle / "model.onnx", providers=["CPUExecutionProvider"])
    graph = backend.BoundGraph(session, 0, record=True)
    kept = []
    for ids in (np.full((batch, 48, 64), class_id, np.uint8) for class_id, batch in ((0, 1), (1, 2), (2, 1), (1, 1))):
        kept.append((graph.run({"target_labels": ids})["image"], tiny_palette.array[ids]))
    assert all(np.array_equal(image, expected) for image, expected in kept), "an answer was overwritten"
    bindings = graph._bindings.values()
    assert [binding.options.get_run_config_entry("gpu_graph_id") for binding in bindings] == ["1", "2"]


def test_outputs_that_only_the_graph_can_size_are_answered_too(backend: ModuleType) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Identity", ["x"], ["same"])]
    value = helper.make_tensor_value_info
    outputs = [value("where", TensorProto.INT64, [1, "found"]), value("same", TensorProto.FLOAT, ["N"])]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["N"])], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    bound = backend.BoundGraph(session, None)
    for row in ([0, 5, 7], [1, 0, 0]):
        answer = bound.run({"x": np.array(row, np.float32)})
        assert answer["where"].tolist() == [np.flatnonzero(row).tolist()]
        assert answer["same"].tolist() == row


@pytest.mark.parametrize(
    ("kind", "optimization", "message"),
    [
        ("CPU", accelerator("cpu", "openvino"), r"'openvino' needs OpenVINOExecutionProvider, which this ONNX Runtime"),
        ("CPU", accelerator("cpu", "magic"), "unknown CPU execution accelerator 'magic': openvino"),
        ("CPU", accelerator("gpu", "cuda"), "'cuda' needs a GPU, and this instance runs on the CPU"),
        ("GPU", accelerator("gpu", "openvino"), "unknown GPU execution accelerator 'openvino': cuda, tensorrt"),
        ("GPU", accelerator("gpu", "tensorrt", precision_mode="FP4"), "unsupported precision_mode 'FP4'"),
    ],
)
def test_an_accelerator_that_cannot_be_is_refused(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path, kind: str, optimization: dict[str, Any], message: str
) -> None:
    with pytest.raises(backend.AcceleratorError, match=message):
        load(backend, tiny_bundle, tmp_path, kind=kind, optimization=optimization)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the accelerators may work")
@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_an_accelerator_that_does_not_load_is_refused(
    backend: ModuleType, tiny_bundle: Path, tmp_path: Path, name: str, warnings_logged: list[str]
) -> None:
    """ONNX Runtime itself would go on without it."""
    optimization = accelerator("gpu", name) | {"cuda": {"graphs": True}}
    if name == "cuda" and "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA at all")
    with pytest.raises(backend.AcceleratorError, match=f"accelerator '?{name}"):
        load(backend, tiny_bundle, tmp_path, kind="GPU", optimization=optimization)
    assert warnings_logged == []


def test_where_cuda_graphs_cannot_be_recorded_it_runs_without(
    backend: ModuleType,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    warnings_logged: list[str],
) -> None:
    session = ort.InferenceSession(tiny_bundle / "model.onnx", providers=["CPUExecutionProvider"])

    def refuse(*_: object, record: bool) -> Any:
        if record:
            raise RuntimeError("not all nodes are on the GPU\nmore of it")
        return session

    monkeypatch.setattr(backend, "_load", refuse)
    monkeypatch.setattr(backend, "CUDA", "CPUExecutionProvider")
    monkeypatch.setattr(backend, "GPU", "cpu")
    model = load(backend, tiny_bundle, tmp_path, kind="GPU", optimization={"cuda": {"graphs": True}})
    assert len(warnings_logged) == 1
    assert warnings_logged[0].endswith(
        "runs without CUDA graphs, which cannot be recorded: not all nodes are on the GPU"
    )
    (response,) = model.execute([Request(np.zeros((1, 48, 64), np.uint8))])
    assert (response.output_tensors[0][1] == (255, 0, 0)).all()


def test_the_cpp_backends_keys_become_the_providers(backend: ModuleType) -> None:
    keys = {"precision_mode": "FP16", "max_workspace_size_bytes": "1", "trt_engine_cache_enable": "1"}
    options = {"trt_fp16_enable": "1", "trt_max_workspace_size": "1", "trt_engine_cache_enable": "1"}
    assert backend._tensorrt_options(keys) == options
    assert backend._tensorrt_options({"precision_mode": "FP32"}) == {}
    assert backend._tensorrt_options({"int8_calibration_table_name": "t"}) == {"trt_int8_calibration_table_name": "t"}


def test_cuda_graphs_are_asked_of_cuda_alone(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    assert backend._providers({"cuda": {"use_tf32": "0"}}, 1, record=True) == [
        ("CUDAExecutionProvider", {"use_tf32": "0", "enable_cuda_graph": "1", "device_id": "1"}),
        "CPUExecutionProvider",
    ]
    chain = backend._providers({"tensorrt": {}}, 1, record=False)
    assert chain[:2] == [
        ("TensorrtExecutionProvider", {"device_id": "1"}),
        ("CUDAExecutionProvider", {"device_id": "1"}),
    ]

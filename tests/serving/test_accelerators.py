"""What config.pbtxt says for a GPU, for OpenVINO and for an engine, in keys that the C++ backends know."""

import dataclasses
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.errors import InputError
from semia.core.model_card import CARD_FILE, EngineCard, ModelCard, Precision, TargetParity
from semia.serving import (
    Accelerator,
    ServerOptions,
    ServingSettings,
    TritonServer,
    config_text,
    model_config,
    model_states,
    publish,
)

ENGINE = EngineCard("10.16.1", "NVIDIA H200", "9.0", "fp32", 1, 4, "ab" * 32, (TargetParity("source", 1, 0.01),))

TENSORRT_KEYS = {
    "precision_mode",
    "max_workspace_size_bytes",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_profile_max_shapes",
}
"""As the README and the source of triton-inference-server/onnxruntime_backend spell them; it refuses others."""


@pytest.fixture
def card(tiny_bundle: Path) -> ModelCard:
    return ModelCard.read(tiny_bundle / CARD_FILE)


def configuration(card: ModelCard, accelerator: Accelerator | None, max_batch_size: int = 3) -> pb.ModelConfig:
    """As Triton reads it."""
    settings = ServingSettings(
        accelerator=accelerator, max_batch_size=max_batch_size, engine_cache=PurePosixPath("/engines")
    )
    return text_format.Parse(config_text(card, "ab" * 32, settings), pb.ModelConfig())


def test_tensorrt_keeps_its_engines_and_is_warm_before_it_serves(card: ModelCard) -> None:
    config = configuration(card, Accelerator.TENSORRT)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    options = dict(accelerator.parameters)
    assert accelerator.name == "tensorrt"
    assert set(options) == TENSORRT_KEYS
    assert options["precision_mode"] == "FP32"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "/engines"
    assert options["trt_profile_max_shapes"] == "target_labels:3x48x64"
    assert options["trt_profile_min_shapes"] == options["trt_profile_opt_shapes"] == "target_labels:1x48x64"
    assert [group.kind for group in config.instance_group] == [pb.ModelInstanceGroup.KIND_GPU]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 2, 3]
    assert len({warmup.name for warmup in config.model_warmup}) == 3
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")


def test_another_graph_never_gets_a_cached_engine(card: ModelCard) -> None:
    """ONNX Runtime tells engines apart by the names in a graph, and trained anew it has the same ones."""

    def prefix(of: ModelCard) -> str:
        (accelerator,) = configuration(
            of, Accelerator.TENSORRT
        ).optimization.execution_accelerators.gpu_execution_accelerator
        return str(accelerator.parameters["trt_engine_cache_prefix"])

    assert prefix(card).startswith("tiny-")
    assert prefix(card) != prefix(dataclasses.replace(card, graph_sha256="cd" * 32))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_tensorrts_precision_is_the_graphs(card: ModelCard, precision: Precision) -> None:
    config = configuration(dataclasses.replace(card, precision=precision), Accelerator.TENSORRT)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["precision_mode"] == precision.upper()


def test_cuda_keeps_float32_and_records_graphs(card: ModelCard) -> None:
    config = configuration(card, Accelerator.CUDA)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    # Not enable_cuda_graph: the C++ backend would hand it on, and give every request another address.
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
    assert config.optimization.cuda.graphs
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 2, 3]


def test_openvino_is_the_cpus(card: ModelCard) -> None:
    config = configuration(card, Accelerator.OPENVINO)
    accelerators = config.optimization.execution_accelerators
    assert [entry.name for entry in accelerators.cpu_execution_accelerator] == ["openvino"]
    assert not accelerators.gpu_execution_accelerator
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU


def test_without_one_nothing_is_asked_for(card: ModelCard) -> None:
    config = configuration(card, None)
    assert not config.HasField("optimization")
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO


def test_an_engine_is_served_by_the_tensorrt_backend(card: ModelCard) -> None:
    with_engine = dataclasses.replace(card, engine=ENGINE)
    config = configuration(with_engine, None, 4)
    assert (config.platform, config.backend) == ("tensorrt_plan", "tensorrt")
    assert config.default_model_filename == "model.plan"
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert configuration(with_engine, Accelerator.CUDA).default_model_filename == "model.onnx"


def test_batches_beyond_an_engine_are_refused(card: ModelCard) -> None:
    with pytest.raises(InputError, match=r"up to 5 are allowed, and the engine of 'tiny' takes up to 4: .*--batches"):
        model_config(dataclasses.replace(card, engine=ENGINE), "ab" * 32, ServingSettings(max_batch_size=5))


def test_the_engine_cache_is_a_place_not_a_matter_of_where_triton_was_started() -> None:
    with pytest.raises(InputError, match="must be an absolute path of the server, not engines"):
        ServingSettings(engine_cache=PurePosixPath("engines"))


def test_triton_says_in_one_line_what_it_lacks(
    embedded_triton: None, tiny_bundle: Path, server_options: Callable[[], ServerOptions], tmp_path: Path
) -> None:
    repository = tmp_path / "model_repository"
    publish(tiny_bundle, repository)
    for accelerator in Accelerator:
        settings = ServingSettings(accelerator=accelerator, max_batch_size=2)
        publish(tiny_bundle, repository, name=accelerator.value, settings=settings)
    with TritonServer(repository, server_options()) as server:
        states = model_states(server.grpc_url)
    assert states.pop("tiny").version == 1
    problems = {name: state.problem or "" for name, state in states.items()}
    assert problems.keys() == {"cuda", "openvino", "tensorrt"}
    assert "needs OpenVINOExecutionProvider, which this ONNX Runtime" in problems["openvino"]
    if not torch.cuda.is_available():
        assert "has kind KIND_GPU but no GPUs are available" in problems["tensorrt"]
        assert "has kind KIND_GPU but no GPUs are available" in problems["cuda"]

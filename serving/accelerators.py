"""How config.pbtxt asks for a GPU, for OpenVINO, or for a TensorRT engine.

The keys are those that the Triton container's C++ backends read; unknown ones make them refuse a model.
"""

from pathlib import PurePosixPath

from tritonclient.grpc import model_config_pb2 as pb

from semia.core.accelerators import DEFAULT_ENGINE_CACHE, Accelerator
from semia.core.errors import InputError
from semia.core.model_card import INPUT_NAME, MODEL_FILE, PLAN_FILE, ModelCard

WORKSPACE_BYTES = 4 << 30
"""Scratch memory that TensorRT may try algorithms with; ONNX Runtime's default of 1 GiB rules fast ones out."""

Accelerators = pb.ModelOptimizationPolicy.ExecutionAccelerators
Group = pb.ModelInstanceGroup


def served_file(card: ModelCard, accelerator: Accelerator | None) -> str:
    """Which of a bundle's files is served: its engine if it has one, unless its graph is to be accelerated."""
    return MODEL_FILE if card.engine is None or accelerator is not None else PLAN_FILE


def accelerate(
    config: pb.ModelConfig, card: ModelCard, accelerator: Accelerator | None, engine_cache: PurePosixPath
) -> None:
    """Make a configuration of the plain graph ask for more, if there is more to ask for.

    Raises:
        InputError: if the configuration allows batches that the card's engine does not take.
    """
    if served_file(card, accelerator) == PLAN_FILE:
        _serve_engine(config, card)
    elif accelerator is Accelerator.TENSORRT:
        _ask_for(config, accelerator, _tensorrt_options(config, card, engine_cache))
    elif accelerator is Accelerator.CUDA:
        # TensorFloat-32, on by default, would round the factors of float32 products to 10 bits.
        _ask_for(config, accelerator, {"use_tf32": "0"})
        config.optimization.cuda.graphs = True  # our own backend heeds it, the C++ one has no use for it
    elif accelerator is Accelerator.OPENVINO:
        _use(config, Group.KIND_CPU)
        asked = Accelerators.Accelerator(name=accelerator.value)
        config.optimization.execution_accelerators.cpu_execution_accelerator.append(asked)


def asked_of(config: pb.ModelConfig) -> tuple[Accelerator | None, PurePosixPath]:
    """The accelerator and the engine cache that a configuration asks for: what `accelerate` was told.

    Raises:
        ValueError: if it asks for an accelerator that is none of ours.
    """
    policy = config.optimization.execution_accelerators
    for asked in [*policy.gpu_execution_accelerator, *policy.cpu_execution_accelerator]:
        cache = asked.parameters.get("trt_engine_cache_path", str(DEFAULT_ENGINE_CACHE))
        return Accelerator(asked.name), PurePosixPath(cache)
    return None, DEFAULT_ENGINE_CACHE


def _ask_for(config: pb.ModelConfig, accelerator: Accelerator, options: dict[str, str]) -> None:
    _use(config, Group.KIND_GPU)
    _warm_up_every_batch(config)
    asked = Accelerators.Accelerator(name=accelerator.value, parameters=options)
    config.optimization.execution_accelerators.gpu_execution_accelerator.append(asked)


def _tensorrt_options(config: pb.ModelConfig, card: ModelCard, engine_cache: PurePosixPath) -> dict[str, str]:
    def shape(batch: int) -> str:
        return f"{INPUT_NAME}:{batch}x{card.canvas_height}x{card.canvas_width}"

    return {
        "precision_mode": card.precision.upper(),  # the graph's own, never a lower one
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engine_cache),
        # ONNX Runtime knows a cached engine by the names in its graph, not by the weights: without this, a model
        # that is trained again would be served with its old weights.
        "trt_engine_cache_prefix": f"{card.name}-{card.graph_sha256[:16]}",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engine_cache),
        # One engine for all batches, built when the model is loaded.
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(1),
        "trt_profile_max_shapes": shape(max(1, config.max_batch_size)),
    }


def _serve_engine(config: pb.ModelConfig, card: ModelCard) -> None:
    assert card.engine is not None, "there is an engine to serve"
    if config.max_batch_size > card.engine.max_batch:
        raise InputError(
            f"batches of up to {config.max_batch_size} are allowed, and the engine of {card.name!r} takes up to "
            f"{card.engine.max_batch}: export it again with --batches"
        )
    config.platform = "tensorrt_plan"
    config.backend = "tensorrt"
    config.default_model_filename = PLAN_FILE
    config.optimization.cuda.graphs = True
    _use(config, Group.KIND_GPU)
    _warm_up_every_batch(config)


def _use(config: pb.ModelConfig, kind: int) -> None:
    for group in config.instance_group:
        group.kind = kind


def _warm_up_every_batch(config: pb.ModelConfig) -> None:
    """On a GPU each size of batch is prepared by its first run: algorithms are chosen, CUDA graphs recorded."""
    first = config.model_warmup[0]
    for batch in range(first.batch_size + 1, config.max_batch_size + 1):
        another = config.model_warmup.add()
        another.CopyFrom(first)
        another.name, another.batch_size = f"{first.name}-{batch}", batch

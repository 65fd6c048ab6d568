"""``config.pbtxt``: what Triton is told about a model, made from the model's card through protobuf.

Only keys which the C++ ``onnxruntime`` backend reads or ignores appear, so that one repository serves on
the embedded Triton and on the stock container alike.

A request has a largest size (INVALID_ARGUMENT beyond it), and so has every answer. How long a request waits is
bounded by its caller's deadline: Triton's plain scheduler computes abandoned requests, its dynamic
batcher drops it. Requests that wait are handed on together, and our backend answers them side by side; a preferred
batch of one has the batcher hand them on one by one.

The batcher can also refuse requests that find too many waiting, or wait too long. That is off unless asked for:
with either bound, Triton (2.51 was measured) hands on a request only when it sees an instance idle, misses some of
the moments at which one becomes so, and then looks again after half a second.
"""

import json
from dataclasses import dataclass
from pathlib import PurePosixPath

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.access import MAX_MESSAGE_BYTES, largest_batch
from semia.core.errors import InputError
from semia.core.labels import Canvas
from semia.core.model_card import (
    DEFAULT_ENGINE_CACHE,
    INPUT_NAME,
    MODEL_FILE,
    OUTPUT_NAME,
    PLAN_FILE,
    Accelerator,
    ModelCard,
)
from semia.serving.errors import BundleError

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
        _request_accelerator(config, accelerator, _tensorrt_options(config, card, engine_cache))
    elif accelerator is Accelerator.CUDA:
        # TensorFloat-32, on by default, would round the factors of float32 products to 10 bits.
        _request_accelerator(config, accelerator, {"use_tf32": "0"})
        config.optimization.cuda.graphs = True  # our own backend heeds it, the C++ one has no use for it
    elif accelerator is Accelerator.OPENVINO:
        _set_kind(config, Group.KIND_CPU)
        asked = Accelerators.Accelerator(name=accelerator.value)
        config.optimization.execution_accelerators.cpu_execution_accelerator.append(asked)


def requested_accelerator(config: pb.ModelConfig) -> tuple[Accelerator | None, PurePosixPath]:
    """The accelerator and the engine cache that a configuration asks for: what `accelerate` was told.

    Raises:
        ValueError: if it asks for an accelerator that is none of ours.
    """
    policy = config.optimization.execution_accelerators
    for asked in [*policy.gpu_execution_accelerator, *policy.cpu_execution_accelerator]:
        cache = asked.parameters.get("trt_engine_cache_path", str(DEFAULT_ENGINE_CACHE))
        return Accelerator(asked.name), PurePosixPath(cache)
    return None, DEFAULT_ENGINE_CACHE


def _request_accelerator(config: pb.ModelConfig, accelerator: Accelerator, options: dict[str, str]) -> None:
    _set_kind(config, Group.KIND_GPU)
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
    _set_kind(config, Group.KIND_GPU)
    _warm_up_every_batch(config)


def _set_kind(config: pb.ModelConfig, kind: int) -> None:
    for group in config.instance_group:
        group.kind = kind


def _warm_up_every_batch(config: pb.ModelConfig) -> None:
    """On a GPU each size of batch is prepared by its first run: algorithms are chosen, CUDA graphs recorded."""
    first = config.model_warmup[0]
    for batch in range(first.batch_size + 1, config.max_batch_size + 1):
        another = config.model_warmup.add()
        another.CopyFrom(first)
        another.name, another.batch_size = f"{first.name}-{batch}", batch


CARD_HASH_PARAMETER = "model_card_sha256"
REASON_PARAMETER = "tuned"

DEFAULT_MAX_BATCH = 8
"""Label maps one request may carry, where that many pictures fit in a message."""

HEADER = "# Generated by `semia publish`, which writes it anew with every version and keeps what its options can say.\n"


ONE_BY_ONE = [1]
"""Preferred sizes of batches under which requests are never put together."""

MIN_QUEUE_TIMEOUT_S, MAX_QUEUE_TIMEOUT_S = 0.001, 3600.0
"""Triton takes 0 for no limit at all. Below a second it may refuse what it had half a second no eye for, see above."""


@dataclass(frozen=True)
class ServingSettings:
    """How a model is run; everything else follows from its card."""

    max_batch_size: int | None = None  # label maps one request may carry; None: 8, or as many as fit in an answer
    instances: int = 1  # copies run side by side: on each GPU where there are any, else on the CPU
    threads: int | None = None  # CPU threads of one instance; None: every core the server may use
    accelerator: Accelerator | None = None  # None: the bundle's engine if it has one, else ONNX Runtime's own kernels
    engine_cache: PurePosixPath = DEFAULT_ENGINE_CACHE  # where the tensorrt accelerator keeps its engines
    batching: bool = True  # whether requests that wait are handed to an instance together; nothing waits for company
    queue_size: int | None = None  # requests that may wait, further ones are refused at once; None: no bound
    queue_timeout_s: float | None = None  # after which a request that waits is refused; None: at its own deadline
    reason: str | None = None  # why it is run so, where that was measured

    def __post_init__(self) -> None:
        for field in ("max_batch_size", "instances", "threads", "queue_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise InputError(f"{field} must be at least 1, not {value}")
        if self.queue_timeout_s is not None and not MIN_QUEUE_TIMEOUT_S <= self.queue_timeout_s <= MAX_QUEUE_TIMEOUT_S:
            raise InputError(
                f"queue_timeout_s must be {MIN_QUEUE_TIMEOUT_S:g} to {MAX_QUEUE_TIMEOUT_S:g}, "
                f"not {self.queue_timeout_s:g}"
            )
        if not self.engine_cache.is_absolute():
            raise InputError(f"the engine cache must be an absolute path of the server, not {self.engine_cache}")

    def __str__(self) -> str:
        """In words: instances, threads, and whatever is not as it is for a new model."""
        threads = "all cores" if self.threads is None else f"{self.threads} thread{'s' * (self.threads > 1)}"
        words = [f"{self.instances} instance{'s' * (self.instances > 1)} of {threads}"]
        if not self.batching:
            words.append("requests one by one")
        if self.accelerator is not None:
            words.append(f"accelerated by {self.accelerator}")
        if self.max_batch_size is not None:
            words.append(f"at most {self.max_batch_size} label maps a request")
        if self.queue_size is not None:
            words.append(f"at most {self.queue_size} requests waiting")
        if self.queue_timeout_s is not None:
            words.append(f"none for longer than {self.queue_timeout_s:g} s")
        return ", ".join(words)


DEFAULT_SETTINGS = ServingSettings()


def model_config(card: ModelCard, card_sha256: str, settings: ServingSettings = DEFAULT_SETTINGS) -> pb.ModelConfig:
    """Triton's configuration of the model that ``card`` describes.

    The ``parameters`` carry all a client needs to prepare a label map, so that it needs the server alone.

    Raises:
        BundleError: if not even one picture of the card's canvas fits in an answer.
        InputError: if the card's engine cannot be served so, or an answer cannot hold the batches asked for.
    """
    label_map = [card.canvas_height, card.canvas_width]
    zeros = pb.ModelWarmup.Input(data_type=pb.TYPE_UINT8, dims=label_map, zero_data=True)
    config = pb.ModelConfig(
        name=card.name,
        backend="onnxruntime",
        default_model_filename=MODEL_FILE,
        max_batch_size=_max_batch_size(card, settings),
        input=[pb.ModelInput(name=INPUT_NAME, data_type=pb.TYPE_UINT8, dims=label_map)],
        output=[pb.ModelOutput(name=OUTPUT_NAME, data_type=pb.TYPE_UINT8, dims=[*label_map, 3])],
        # KIND_AUTO is the GPU where Triton has one. Left out altogether, a CPU would get two instances.
        instance_group=[pb.ModelInstanceGroup(count=settings.instances, kind=pb.ModelInstanceGroup.KIND_AUTO)],
        dynamic_batching=_queue(settings),
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        # The first inference is the slowest; no caller should be the one to wait for it.
        model_warmup=[pb.ModelWarmup(name="zeros", batch_size=1, inputs={INPUT_NAME: zeros})],
        parameters={key: pb.ModelParameter(string_value=value) for key, value in _parameters(card, settings).items()}
        | {CARD_HASH_PARAMETER: pb.ModelParameter(string_value=card_sha256)},
    )
    accelerate(config, card, settings.accelerator, settings.engine_cache)
    return config


def config_text(card: ModelCard, card_sha256: str, settings: ServingSettings = DEFAULT_SETTINGS) -> str:
    """`model_config` as the text of a ``config.pbtxt``."""
    config = model_config(card, card_sha256, settings)
    comments = [] if settings.reason is None else [settings.reason]
    if settings.max_batch_size is None and config.max_batch_size < DEFAULT_MAX_BATCH:
        comments.append(f"max_batch_size: no more pictures fit in an answer of {MAX_MESSAGE_BYTES >> 20} MiB")
    return HEADER + "".join(f"# {comment}\n" for comment in comments) + text_format.MessageToString(config)


def parse_config(text: str) -> pb.ModelConfig:
    """The configuration in a ``config.pbtxt``, which may have keys of later Tritons.

    Raises:
        text_format.ParseError: if it is none.
    """
    return text_format.Parse(text, pb.ModelConfig(), allow_unknown_field=True)


def settings_from_config(text: str) -> ServingSettings:
    """How the model of a ``config.pbtxt`` is run: the inverse of `config_text`, but for batches of the default size.

    Raises:
        InputError: if the text is no such configuration.
    """
    try:
        config = parse_config(text)
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        accelerator, engine_cache = requested_accelerator(config)
        batcher, queue = config.dynamic_batching, config.dynamic_batching.default_queue_policy
        default_batch = min(DEFAULT_MAX_BATCH, largest_batch(Canvas(*config.input[0].dims)))
        return ServingSettings(
            max_batch_size=None if config.max_batch_size == default_batch else config.max_batch_size,
            instances=config.instance_group[0].count,
            threads=int(parameters["intra_op_thread_count"]) if "intra_op_thread_count" in parameters else None,
            accelerator=accelerator,
            engine_cache=engine_cache,
            batching=config.HasField("dynamic_batching") and [*batcher.preferred_batch_size] != ONE_BY_ONE,
            queue_size=queue.max_queue_size or None,
            queue_timeout_s=queue.default_timeout_microseconds / 1e6 or None,
            reason=parameters.get(REASON_PARAMETER),
        )
    except (text_format.ParseError, IndexError, ValueError) as error:
        raise InputError(f"this is no model configuration of ours: {error}") from error


def _max_batch_size(card: ModelCard, settings: ServingSettings) -> int:
    fitting = largest_batch(card.canvas)
    if fitting == 0:
        raise BundleError(
            f"{card.name!r} paints {card.canvas} pixels, and not one such picture fits in an answer of "
            f"{MAX_MESSAGE_BYTES >> 20} MiB: train it on a smaller canvas"
        )
    if settings.max_batch_size is None:
        return min(DEFAULT_MAX_BATCH, fitting)
    if settings.max_batch_size > fitting:
        raise InputError(
            f"batches of up to {settings.max_batch_size} are asked for, and an answer of {MAX_MESSAGE_BYTES >> 20} MiB "
            f"holds {fitting} pictures of {card.canvas} pixels"
        )
    return settings.max_batch_size


def _queue(settings: ServingSettings) -> pb.ModelDynamicBatching:
    queue = pb.ModelDynamicBatching(preferred_batch_size=[] if settings.batching else ONE_BY_ONE)
    if settings.queue_size is not None:
        queue.default_queue_policy.max_queue_size = settings.queue_size
    if settings.queue_timeout_s is not None:
        queue.default_queue_policy.default_timeout_microseconds = round(settings.queue_timeout_s * 1e6)
        queue.default_queue_policy.allow_timeout_override = True  # callers may ask for less, never for more
    return queue


def _parameters(card: ModelCard, settings: ServingSettings) -> dict[str, str]:
    parameters = {
        "canvas_height": str(card.canvas_height),
        "canvas_width": str(card.canvas_width),
        "palette": json.dumps(card.palette),
        "class_names": json.dumps(card.class_names),
    }
    if settings.threads is not None:
        parameters["intra_op_thread_count"] = str(settings.threads)
    if settings.reason is not None:
        parameters[REASON_PARAMETER] = settings.reason
    return parameters

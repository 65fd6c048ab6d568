"""A stand-in for the ``tensorrt`` package, whose libraries cannot be had where there is no GPU.

Its classes have the members of the real bindings that we use, with the same parameters, and no others:
``tensorrt_api.json`` was recorded from the wheels tensorrt-cu12-bindings 10.16.1.11 and tensorrt-cu13-bindings
11.4.0.106, loaded with empty libraries in the place of NVIDIA's. What they do is the least that the documentation
promises; an engine's arithmetic is ONNX Runtime's.
"""

import ctypes
import inspect
import json
import types
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from tests.export.tensorrt.operators import offences

API = json.loads(Path(__file__).with_name("api.json").read_text(encoding="utf-8"))
VERSIONS = tuple(API)
SEPARATOR = b"\0"  # between a plan's facts and its graph


class ILogger:
    Severity: Any = types.SimpleNamespace(**{name: name for name in API[VERSIONS[0]]["ILogger"]["Severity"]})

    def __init__(self) -> None:
        self.ready = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self.ready = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class INetworkDefinition:
    flags = 0
    model = b""


class ParserError:
    def __init__(self, operator: str) -> None:
        self._operator = operator

    def desc(self) -> str:
        return "not\nsupported"

    def node_name(self) -> str:
        return "node_1"

    def node_operator(self) -> str:
        return self._operator


class OnnxParser:
    """Takes what the published list has, and no more."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        assert logger.ready, "the bindings crash where a derived logger did not initialize its base"
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        self._errors = [ParserError(text) for text in offences(onnx.load_from_string(model))]
        self._network.model = model
        return not self._errors

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IOptimizationProfile:
    shapes: tuple[tuple[int, ...], ...] = ()

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:  # noqa: A002
        assert input == INPUT_NAME
        assert all(low <= middle <= high for low, middle, high in zip(min, opt, max, strict=True))
        self.shapes = min, opt, max


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> memoryview:
        return memoryview(self.content)


class IBuilderConfig:
    progress_monitor: IProgressMonitor | None = None

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.profiles: list[IOptimizationProfile] = []
        self.cache: ITimingCache | None = None

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1 if profile.shapes else -1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        return None if serialized_timing_cache == b"broken" else ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.content == b"foreign" and not ignore_mismatch:
            return False
        self.cache = cache
        return True


class Builder:
    version: ClassVar[str]
    out_of_memory: ClassVar[bool] = False

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        network = INetworkDefinition()
        network.flags = flags
        return network

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> memoryview | None:
        assert network.flags == 1 << API[self.version]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
        monitor = config.progress_monitor
        assert monitor is not None
        assert config.cache is not None
        assert config.flags == set(), "TF32 would be used"
        monitor.phase_start("Building", None, 1)
        monitor.phase_start("Timing", "Building", 2)
        for step in range(2):
            if not monitor.step_complete("Timing", step):
                return None
        monitor.phase_finish("Timing")
        monitor.step_complete("Building", 0)
        monitor.phase_finish("Building")
        if self.out_of_memory:
            self._logger.log(ILogger.Severity.ERROR, "out of\nmemory")
            self._logger.log(ILogger.Severity.INFO, "cleaning up")
            return None
        config.cache.content = b"timings"
        facts = {"version": self.version, "shapes": config.profiles[0].shapes}
        return memoryview(json.dumps(facts).encode() + SEPARATOR + network.model)


class IExecutionContext:
    def __init__(self, shapes: list[list[int]], model: bytes) -> None:
        self._shapes = shapes
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._shapes
        self._shape = shape
        return all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (*self._shape, 3) if name == OUTPUT_NAME else self._shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        (pictures,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: self._memory(INPUT_NAME)})
        self._memory(OUTPUT_NAME)[...] = pictures
        return True

    def _memory(self, name: str) -> Any:
        shape = self.get_tensor_shape(name)
        content = (ctypes.c_uint8 * int(np.prod(shape))).from_address(self._addresses[name])
        return np.ctypeslib.as_array(content).reshape(shape)


class ICudaEngine:
    def __init__(self, shapes: list[list[int]], model: bytes) -> None:
        self._parts = shapes, model

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext:
        return IExecutionContext(*self._parts)


class Runtime:
    version: ClassVar[str]

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        facts, model = serialized_engine.split(SEPARATOR, 1)
        content = json.loads(facts)
        if content["version"] != self.version:
            self._logger.log(ILogger.Severity.ERROR, "the plan was made by another version")
            return None
        return ICudaEngine(content["shapes"], model)


CLASSES = (
    ILogger,
    IProgressMonitor,
    INetworkDefinition,
    ParserError,
    OnnxParser,
    IOptimizationProfile,
    ITimingCache,
    IBuilderConfig,
    Builder,
    IExecutionContext,
    ICudaEngine,
    Runtime,
)


def tensorrt(version: str) -> Any:
    """The stand-in of one version."""
    recorded = API[version]
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    for flags in ("BuilderFlag", "NetworkDefinitionCreationFlag"):
        setattr(module, flags, IntEnum(flags, recorded[flags]))
    for made in CLASSES:
        check_parameters(made, recorded[made.__name__])
        setattr(module, made.__name__, type(made.__name__, (made,), {"version": version}))
    return module


def check_parameters(made: type, recorded: dict[str, Any]) -> None:
    """Make sure that a class takes what the real one takes."""
    for name, member in vars(made).items():
        if inspect.isfunction(member) and name in recorded:
            parameters = [*inspect.signature(member).parameters.values()][1:]
            spelt = [value.name + ("" if value.default is value.empty else "=") for value in parameters]
            assert spelt == recorded[name], f"{made.__name__}.{name} takes {spelt}, the real one {recorded[name]}"
        elif not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert recorded.get(name) == "property", f"the real {made.__name__} has no {name}"

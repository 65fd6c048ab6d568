"""Malformed requests to Triton: strategies for hypothesis, which makes the same ones in every run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

CANVAS = (48, 64)

TEMPORARY = Path("/tmp")  # noqa: S108 - Triton's own choice, whatever TMPDIR says

IDS = np.random.default_rng(0).integers(0, 3, (1, *CANVAS), dtype=np.uint8)


def good_request(ids: NDArray[np.uint8] = IDS) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[ids.tobytes()])
    request.inputs.add(name="target_labels", datatype="UINT8", shape=ids.shape)
    request.outputs.add(name="image")
    return request


MARK = "semia-hostile"
"""In every path that a request names: no file of that name may appear anywhere."""

NAMES = st.one_of(
    st.sampled_from(
        [
            *("", ".", "..", "../tiny", "tiny/", "tiny/1", "/", "//", "~", "*", "%s%n%p", "Tiny", " tiny", "tiny\n"),
            *(
                "\x00",
                "tiny\x00",
                "\x1b[2J\r\x07",
                "\u202e\ufeff",
                "é" * 40,
                "'; touch " + MARK,
                f"$({MARK})",
                f"`{MARK}`",
            ),
            *(f"../../../../tmp/{MARK}", f"{TEMPORARY}/{MARK}", f"/dev/./shm/{MARK}", "/etc/passwd", "/proc/self/mem"),
            *("n" * 300, "n" * 1_000_000, "../" * 2_000 + MARK),
        ]
    ),
    st.text(max_size=40),
)
WHOLE_NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 8, 9, 48, 64, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**63 - 1),
)
SHAPES = st.one_of(
    st.sampled_from(
        [
            *([], [1], [48, 64], [1, 64, 48], [1, 48, 64, 1], [1, 48, 64, 3], [0, 48, 64], [9, 48, 64], [8, 48, 64]),
            *([-1, 48, 64], [1, -48, -64], [2**32, 48, 64], [2**62, 2**62, 4], [1] * 1_000),
        ]
    ),
    st.lists(WHOLE_NUMBERS, max_size=6),
)
DATATYPES = st.one_of(
    st.sampled_from(["UINT8", "INT8", "BOOL", "UINT64", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES", "uint8"]),
    NAMES,
)
CONTENTS = st.one_of(
    st.sampled_from([0, 1, 3071, 3073, 3072 * 3, 3072 * 8, 3072 * 9, 5_000_000]).map(bytes),
    st.sampled_from([3, 128, 255]).map(lambda class_id: IDS.tobytes()[:-1] + bytes([class_id])),
    st.binary(max_size=64),
)
PARAMETERS = st.dictionaries(
    st.one_of(
        st.sampled_from(
            [
                *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification"),
                *("binary_data", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"),
                *("triton_enable_empty_final_response", "triton_", "binary_data_size", "rpc_traceparent"),
            ]
        ),
        NAMES,
    ),
    st.one_of(
        st.booleans().map(lambda value: pb.InferParameter(bool_param=value)),
        WHOLE_NUMBERS.map(lambda value: pb.InferParameter(int64_param=value)),
        WHOLE_NUMBERS.map(lambda value: pb.InferParameter(uint64_param=value % 2**64)),
        # Training in this process makes it flush subnormal numbers to zero.
        st.floats(allow_subnormal=False).map(lambda value: pb.InferParameter(double_param=value)),
        NAMES.map(lambda value: pb.InferParameter(string_param=value)),
        st.just(pb.InferParameter()),
    ),
    max_size=3,
)
TYPED_CONTENTS = st.sampled_from(
    [
        pb.InferTensorContents(uint_contents=IDS.ravel().tolist()),
        pb.InferTensorContents(uint_contents=[2**32 - 1] * IDS.size),
        pb.InferTensorContents(int_contents=[-1]),
        pb.InferTensorContents(fp32_contents=[float("nan")] * IDS.size),
        pb.InferTensorContents(bytes_contents=[b"\xff" * 3_000_000, b""]),
        pb.InferTensorContents(bool_contents=[True] * IDS.size),
    ]
)


def fill(target: Any, values: dict[str, Any]) -> None:
    """Set the entries of a protobuf map of messages."""
    for key, value in values.items():
        target[key].CopyFrom(value)


def first_input(request: pb.ModelInferRequest) -> Any:
    return request.inputs[0] if request.inputs else request.inputs.add()


def wrong_model(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    request.model_name = draw(NAMES)


def wrong_version(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    request.model_version = draw(st.one_of(NAMES, WHOLE_NUMBERS.map(str)))


def wrong_id(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    request.id = draw(NAMES)


def wrong_input_name(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    first_input(request).name = draw(NAMES)


def wrong_datatype(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    first_input(request).datatype = draw(DATATYPES)


def wrong_shape(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    first_input(request).shape[:] = draw(SHAPES)


def wrong_contents(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    request.raw_input_contents[:] = draw(st.lists(CONTENTS, max_size=2))


def wrong_class_ids(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    """Ids beyond the palette in a request that is good otherwise, whatever else was to be wrong with it."""
    ids = np.repeat(IDS, draw(st.integers(1, 8)), axis=0)
    for place in draw(st.lists(st.integers(0, ids.size - 1), min_size=1, max_size=5)):
        ids.flat[place] = draw(st.integers(3, 255))
    request.CopyFrom(good_request(ids))


def wrong_field(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    first_input(request).contents.CopyFrom(draw(TYPED_CONTENTS))
    if draw(st.booleans()):
        del request.raw_input_contents[:]


def wrong_inputs(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    copies = [pb.ModelInferRequest.InferInputTensor.FromString(first_input(request).SerializeToString())]
    del request.inputs[:]
    request.inputs.extend(copies * draw(st.sampled_from([0, 2, 500])))


def wrong_outputs(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    del request.outputs[:]
    for name in draw(st.lists(st.one_of(st.just("image"), NAMES), max_size=3)):
        request.outputs.add(name=name)


def odd_parameters(request: pb.ModelInferRequest, draw: st.DrawFn) -> None:
    outputs = [output.parameters for output in request.outputs]
    place = draw(st.sampled_from([request.parameters, first_input(request).parameters, *outputs]))
    fill(place, draw(PARAMETERS))


Wrong = Callable[[pb.ModelInferRequest, st.DrawFn], None]
WRONGS: list[Wrong] = [
    *(wrong_model, wrong_version, wrong_id, wrong_input_name, wrong_datatype, wrong_shape, wrong_contents),
    *(wrong_class_ids, wrong_field, wrong_inputs, wrong_outputs, odd_parameters),
]


@st.composite
def requests(draw: st.DrawFn, wrongs: st.SearchStrategy[list[Wrong]]) -> pb.ModelInferRequest:
    """A good request with one to three things wrong, so that each gets as deep into the server as it can."""
    request = good_request()
    for wrong in draw(wrongs):
        wrong(request, draw)
    return request


@st.composite
def other_calls(draw: st.DrawFn) -> tuple[str, Any]:
    """A method other than inference, and a message to it. None of them can load, change or unload "tiny"."""
    name, key = draw(NAMES), draw(NAMES)
    size = draw(WHOLE_NUMBERS) % 2**64
    method, message = draw(
        st.sampled_from(
            [
                ("ModelReady", pb.ModelReadyRequest(name=name, version=key)),
                ("ModelMetadata", pb.ModelMetadataRequest(name=name, version=key)),
                ("ModelConfig", pb.ModelConfigRequest(name=name, version=key)),
                ("ModelStatistics", pb.ModelStatisticsRequest(name=name, version=key)),
                ("RepositoryIndex", pb.RepositoryIndexRequest(repository_name=name)),
                ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name)),
                ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="tiny", repository_name=name or "x")),
                ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name)),
                ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name=name)),
                (
                    "SystemSharedMemoryRegister",
                    pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=size, byte_size=size),
                ),
                ("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=name)),
                ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(name=name)),
                (
                    "CudaSharedMemoryRegister",
                    pb.CudaSharedMemoryRegisterRequest(name=name, raw_handle=key.encode(), byte_size=size),
                ),
                ("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest(name=name)),
                ("TraceSetting", trace_setting(name, draw)),
                ("LogSettings", log_setting(draw)),
            ]
        )
    )
    return method, message


def trace_setting(model: str, draw: st.DrawFn) -> pb.TraceSettingRequest:
    request = pb.TraceSettingRequest(model_name=model)
    keys = st.sampled_from(["trace_file", "trace_rate", "trace_count", "trace_level", "log_frequency", "trace_mode"])
    for key in draw(st.lists(st.one_of(keys, NAMES), max_size=3)):
        request.settings[key].value.extend(draw(st.lists(st.one_of(NAMES, WHOLE_NUMBERS.map(str)), max_size=2)))
    return request


def log_setting(draw: st.DrawFn) -> pb.LogSettingsRequest:
    """Of values that would be taken, none: the log is the session's."""
    request = pb.LogSettingsRequest()
    for key in draw(st.lists(st.sampled_from(["log_file", "log_format", "log_info", "log_verbose_level", MARK]))):
        request.settings[key].string_param = draw(NAMES)
    return request

"""Hundreds of malformed requests, as the protocol carries them: each gets a clean answer, the server stays as it was.

Some 750 of them, the same in every run: hypothesis makes them from a fixed seed.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from semia.core.palette import Palette
from semia.serving import TritonServer
from tests.serving.hostile_requests import (
    IDS,
    MARK,
    TEMPORARY,
    WRONGS,
    good_request,
    other_calls,
    requests,
    wrong_class_ids,
)

DEADLINE_S = 10.0
"""A call that takes longer hangs."""

INFERENCE = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
"""How an inference may be answered; RESOURCE_EXHAUSTED is gRPC's, of a megabyte of name in a refusal."""

OTHERS = INFERENCE | {"UNIMPLEMENTED", "INTERNAL"}
"""How any other call, or one whose bytes are no message, may be; never with UNKNOWN, and never too late."""

MISCOUNTED = "batch size 48 for 'tiny_0_0', max allowed is 8"
"""Triton's answer, INTERNAL, to a batch of no label maps that has one's bytes: it takes their height for the batch."""

hostile = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*HealthCheck],
)


class Caller:
    """Calls any method of a server's protocol with any bytes."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.stub = GRPCInferenceServiceStub(channel)

    def send(self, method: str, message: bytes, clean: set[str] = OTHERS) -> bytes | None:
        """The answer, or None if the call was refused, with one of the clean statuses."""
        call = self.channel.unary_unary(f"/inference.GRPCInferenceService/{method}", None, None)
        code, answer, details = grpc.StatusCode.OK, None, None
        try:
            answer = bytes(call(message, timeout=DEADLINE_S))
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        if method == "ModelInfer" and details == MISCOUNTED and claims_no_label_map(message):
            return None
        assert code.name in clean, f"{method} was answered with {code.name}: {details}"
        return answer


def claims_no_label_map(message: bytes) -> bool:
    """Whether a request's shapes begin with 0."""
    return any([*tensor.shape[:1]] == [0] for tensor in pb.ModelInferRequest.FromString(message).inputs)


@pytest.fixture(scope="module")
def caller(triton: TritonServer, tiny_palette: Palette) -> Iterator[Caller]:
    """Calls the session's server; afterwards it is the same process, its helpers live, and its pictures are right."""
    before, files = pids_of(triton.pid), listing(triton.repository.parent)
    with grpc.insecure_channel(triton.grpc_url, options=[("grpc.enable_http_proxy", 0)]) as channel:
        caller = Caller(channel)
        yield caller
        assert_well(caller, tiny_palette)
    assert pids_of(triton.pid) == before
    assert listing(triton.repository.parent) == files


def assert_well(caller: Caller, palette: Palette) -> None:
    answer = caller.stub.ModelInfer(good_request(), timeout=DEADLINE_S)
    assert answer.raw_output_contents[0] == palette.array[IDS].tobytes()


def pids_of(session: int) -> set[int]:
    """A server's process and its helpers, which stay in its session."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if session_of(path / "stat") == session}


def session_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return None


def listing(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its hash."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@settings(hostile, max_examples=350)
@given(request=requests(st.lists(st.sampled_from(WRONGS), min_size=1, max_size=3)))
def test_malformed_inferences_are_refused(caller: Caller, tiny_palette: Palette, request: pb.ModelInferRequest) -> None:
    answer = caller.send("ModelInfer", request.SerializeToString(), INFERENCE)
    if answer is None:
        return
    response = pb.ModelInferResponse.FromString(answer)
    assert response.model_name == "tiny"
    for output, content in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.datatype == "UINT8":
            assert content == tiny_palette.array[np.frombuffer(sent_ids(request), np.uint8)].tobytes()


def test_a_batch_of_none_with_the_bytes_of_one_is_refused(caller: Caller) -> None:
    """A fault of Triton's, whose answer is the same every time. Our client repeats what shared a batch with it."""
    request = good_request()
    request.inputs[0].shape[:] = [0, *IDS.shape[1:]]
    with pytest.raises(grpc.RpcError, match=f"INTERNAL.*{MISCOUNTED}") as refused:
        caller.stub.ModelInfer(request, timeout=DEADLINE_S)
    assert refused.value.details() == MISCOUNTED


@settings(hostile, max_examples=50)
@given(request=requests(st.just([wrong_class_ids])))
def test_class_ids_beyond_the_palette_are_the_callers_mistake(caller: Caller, request: pb.ModelInferRequest) -> None:
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as refused:
        caller.stub.ModelInfer(request, timeout=DEADLINE_S)
    assert re.search(r"class id \d+, and the model has 3 classes", str(refused.value.details()))


def sent_ids(request: pb.ModelInferRequest) -> bytes:
    if request.raw_input_contents:
        return bytes(request.raw_input_contents[0])
    return bytes(request.inputs[0].contents.uint_contents)


@settings(hostile, max_examples=150)
@given(call=other_calls())
def test_other_calls_with_odd_arguments_are_refused(caller: Caller, call: tuple[str, Any]) -> None:
    method, message = call
    caller.send(method, message.SerializeToString())


@settings(hostile, max_examples=100)
@given(
    method=st.sampled_from(["ModelInfer", "RepositoryModelLoad", "ModelConfig", "LogSettings", "NoSuchMethod", ""]),
    garbage=st.binary(max_size=200),
    cut=st.integers(1, 3000),
)
def test_bytes_that_are_no_message_are_refused(caller: Caller, method: str, garbage: bytes, cut: int) -> None:
    caller.send(method, garbage)
    caller.send("ModelInfer", good_request().SerializeToString()[:-cut] + garbage)


@pytest.mark.parametrize("escape", ["../../{mark}", "1/../../../../../../../../{mark}", "/{mark}", "1/../../{mark}/x"])
def test_uploads_do_not_leave_their_own_folder(
    caller: Caller, triton: TritonServer, tmp_path: Path, escape: str
) -> None:
    """Triton puts files sent with a load request into a folder of its own in /tmp, whatever they are called."""
    aim = tmp_path / MARK
    request = pb.RepositoryModelLoadRequest(model_name="uploaded")
    request.parameters["config"].string_param = '{"backend": "onnxruntime"}'
    request.parameters["file:" + escape.format(mark=str(aim).lstrip("/"))].bytes_param = b"escaped"
    assert caller.send("RepositoryModelLoad", request.SerializeToString()) is None
    assert not aim.exists()
    assert [*triton.repository.parent.rglob(f"*{MARK}*")] == []
    for folder in {path.relative_to(TEMPORARY).parts[0] for path in TEMPORARY.glob(f"folder*/**/{MARK}")}:
        shutil.rmtree(TEMPORARY / folder)  # Triton forgets it


@pytest.mark.parametrize(
    ("config", "wanted"),
    [("{nonsense", "failed to poll"), ("[" * 100_000, "failed to poll"), ('{"max_batch_size": "x"}', "failed to poll")],
)
def test_a_nonsensical_configuration_changes_nothing(caller: Caller, config: str, wanted: str) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="tiny")
    request.parameters["config"].string_param = config
    with pytest.raises(grpc.RpcError, match=wanted):
        caller.stub.RepositoryModelLoad(request, timeout=DEADLINE_S)
    caller.stub.ModelInfer(good_request(), timeout=DEADLINE_S)


@pytest.mark.parametrize("key", ["trace_file", "log_file"])
def test_no_call_has_the_server_write_a_file(caller: Caller, tmp_path: Path, key: str) -> None:
    trace, log = pb.TraceSettingRequest(), pb.LogSettingsRequest()
    trace.settings[key].value.append(str(tmp_path / MARK))
    log.settings[key].string_param = str(tmp_path / MARK)
    caller.send("TraceSetting", trace.SerializeToString())
    caller.send("LogSettings", log.SerializeToString())
    caller.stub.ModelInfer(good_request(), timeout=DEADLINE_S)
    assert [*tmp_path.iterdir()] == []

"""Bad connections to a real Triton, slow, cut, garbled: calls end in time, in the right picture or a `ClientError`."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from semia import serving
from semia.client import AsyncSynthesisClient, ClientError, DeadlineExceededError, SynthesisClient, TlsOptions
from semia.core.palette import Palette

IDS = np.random.default_rng(0).integers(0, 3, (48, 64), dtype=np.uint8)
TIMEOUT_S, SHORT_TIMEOUT_S = 10.0, 0.6
SLACK_S = 1.0
"""For a call to notice that its time is over, on a busy machine."""

CHUNK = 4096

WITHIN_THE_PICTURE = 8000
"""Bytes that a server has sent when it is in the middle of a picture of 9216, whether a handshake came first or not."""

Fault = Callable[[bytes, int], bytes | None]
"""From what has just arrived, and how many bytes of its direction came before, to what is passed on; None: cut."""

Call = Callable[[str, float, TlsOptions | None], NDArray[np.uint8]]


class Proxy:
    """Passes TCP connections on to a server, with a fault in one direction or both."""

    def __init__(self, server: str, faults: Mapping[str, Fault], *, reset: bool = True) -> None:
        """Listen on a port of its own.

        Args:
            server: HOST:PORT.
            faults: what happens to bytes on their way "up", to the server, and "down", to the client.
            reset: whether a cut resets the connection; or else only the direction that is cut ends (a half-close).
        """
        host, port = server.split(":")
        self._server = host, int(port)
        self._faults, self._reset = faults, reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                self._open += [near, far]
                for source, sink, fault in ((near, far, self._faults.get("up")), (far, near, self._faults.get("down"))):
                    threading.Thread(target=self._pump, args=(source, sink, fault), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, fault: Fault | None) -> None:
        before = 0
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                passed = data if fault is None else fault(data, before)
                if passed is None:
                    break
                sink.sendall(passed)
                before += len(data)
            else:
                sink.shutdown(socket.SHUT_WR)
                return
            if self._reset:
                for each in (source, sink):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    each.shutdown(socket.SHUT_RD)  # wakes the other direction
                    each.close()
            else:
                sink.shutdown(socket.SHUT_WR)


def late(seconds: float) -> Fault:
    def fault(data: bytes, _before: int) -> bytes:
        time.sleep(seconds)
        return data

    return fault


def stalled(after: int) -> Fault:
    """Nothing comes any more, and nobody says so."""

    def fault(data: bytes, before: int) -> bytes:
        return data[: max(0, after - before)]

    return fault


def cut(after: int) -> Fault:
    def fault(data: bytes, before: int) -> bytes | None:
        return data if before + len(data) <= after else None

    return fault


def cut_once(after: int) -> Fault:
    """The first connection that comes so far is cut, the next ones are not."""
    left = [1]

    def fault(data: bytes, before: int) -> bytes | None:
        if before + len(data) > after and left:
            left.pop()
            return None
        return data

    return fault


def flipped(seed: int, each: int) -> Fault:
    """One bit in every so many bytes is another one, on average."""
    chance = random.Random(seed)  # noqa: S311 - any will do

    def fault(data: bytes, _before: int) -> bytes:
        garbled = bytearray(data)
        for place in range(len(data)):
            if chance.random() < 1 / each:
                garbled[place] ^= 1 << chance.randrange(8)
        return bytes(garbled)

    return fault


def flipped_at(place: int) -> Fault:
    """One bit of the byte at one place of the connection is another one."""

    def fault(data: bytes, before: int) -> bytes:
        garbled = bytearray(data)
        if before <= place < before + len(data):
            garbled[place - before] ^= 1
        return bytes(garbled)

    return fault


def call_blocking(url: str, timeout_s: float, tls: TlsOptions | None) -> NDArray[np.uint8]:
    with SynthesisClient(url, timeout_s=timeout_s, tls=tls, shared_memory=False) as client:
        return np.asarray(client.synthesize("tiny", IDS))


def call_awaiting(url: str, timeout_s: float, tls: TlsOptions | None) -> NDArray[np.uint8]:
    async def call() -> NDArray[np.uint8]:
        async with AsyncSynthesisClient(url, timeout_s=timeout_s, tls=tls, shared_memory=False) as client:
            return np.asarray(await client.synthesize("tiny", IDS))

    return asyncio.run(call())


def outcome(
    call: Call, proxy: Proxy, timeout_s: float = SHORT_TIMEOUT_S, tls: TlsOptions | None = None
) -> NDArray[np.uint8] | ClientError:
    """What a call ends with; it may be no other exception, and not be late."""
    with proxy:
        began = time.monotonic()
        try:
            return call(proxy.url, timeout_s, tls)
        except ClientError as error:
            return error
        finally:
            assert time.monotonic() - began < timeout_s + SLACK_S


@pytest.fixture(params=[call_blocking, call_awaiting], ids=["sync", "asyncio"])
def call(request: pytest.FixtureRequest) -> Call:
    chosen: Call = request.param
    return chosen


@pytest.fixture
def picture(tiny_palette: Palette) -> NDArray[np.uint8]:
    return tiny_palette.render(IDS)


@pytest.fixture
def tls(certificates: Path) -> TlsOptions:
    return TlsOptions(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")


@pytest.mark.parametrize(
    ("direction", "fault"),
    [("down", lambda: late(0.05)), ("up", lambda: cut_once(100)), ("down", lambda: cut_once(3000))],
    ids=["late", "cut early", "cut late"],
)
def test_what_passes_is_waited_out(
    triton: serving.TritonServer, picture: NDArray[np.uint8], call: Call, direction: str, fault: Callable[[], Fault]
) -> None:
    result = outcome(call, Proxy(triton.grpc_url, {direction: fault()}), TIMEOUT_S)
    assert not isinstance(result, ClientError), result
    np.testing.assert_array_equal(result, picture)


@pytest.mark.parametrize(("direction", "fault"), [("down", late(3.0)), ("up", stalled(500))], ids=["late", "stalled"])
def test_what_does_not_pass_meets_the_deadline(
    triton: serving.TritonServer, call: Call, direction: str, fault: Fault
) -> None:
    assert isinstance(outcome(call, Proxy(triton.grpc_url, {direction: fault})), DeadlineExceededError)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "half-closed"])
@pytest.mark.parametrize(("direction", "after"), [("up", 0), ("down", 2000)])
def test_a_connection_that_is_always_cut_is_an_error(
    triton: serving.TritonServer, call: Call, direction: str, after: int, reset: bool
) -> None:
    assert isinstance(outcome(call, Proxy(triton.grpc_url, {direction: cut(after)}, reset=reset)), ClientError)


def test_one_wrong_bit_of_a_picture_is_noticed_under_tls_alone(
    triton: serving.TritonServer,
    locked_triton: serving.TritonServer,
    picture: NDArray[np.uint8],
    tls: TlsOptions,
    call: Call,
) -> None:
    """Neither gRPC nor HTTP/2 has a checksum, and TCP's is computed anew by whoever garbles on the way."""
    secure = outcome(call, Proxy(locked_triton.grpc_url, {"down": flipped_at(WITHIN_THE_PICTURE)}), tls=tls)
    assert isinstance(secure, ClientError)
    plain = outcome(call, Proxy(triton.grpc_url, {"down": flipped_at(WITHIN_THE_PICTURE)}))
    assert not isinstance(plain, ClientError)
    assert np.count_nonzero(plain != picture) == 1, "what plain text costs"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_garbled_bytes_in_plain_text_break_nothing_else(
    triton: serving.TritonServer, picture: NDArray[np.uint8], direction: str
) -> None:
    errors = 0
    for seed in range(6):
        proxy = Proxy(triton.grpc_url, {direction: flipped(seed, each=(60, 300, 2500)[seed % 3])})
        errors += isinstance(outcome(call_blocking, proxy), ClientError)
    assert errors, "the faults must be some that can be noticed, too"
    assert np.array_equal(call_blocking(triton.grpc_url, TIMEOUT_S, None), picture), "the server serves the next one"

"""Pictures through memory that client and server share, and the way without it where that fails."""

import asyncio
import contextlib
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from semia import serving
from semia.client import (
    AsyncSynthesisClient,
    ClientSettingsError,
    ClientUseError,
    SynthesisClient,
    TlsOptions,
    read_admin_key,
    shared_memory,
)
from semia.client.shared_memory import AUTO_MIN_PIXELS, FOLDER, is_this_machine
from semia.core.palette import Palette
from tests.client.test_connection import IDS, FakeTriton, pixels, running
from tests.conftest import TINY_PALETTE, MakeBundle

RNG = np.random.default_rng(0)


def regions(url: str, **access: Any) -> int:
    """How many the server has."""
    with InferenceServerClient(url, creds=access.get("creds")) as triton:
        return len(triton.get_system_shared_memory_status(headers=access.get("headers"), client_timeout=5).regions)


def names() -> list[str]:
    return [path.name for path in FOLDER.glob("semia-*") if re.fullmatch("semia-[0-9a-f]{32}", path.name)]


def forget_all(url: str) -> None:
    """What a restart does. Triton needs a moment after an answer until it is done with a region."""
    with InferenceServerClient(url) as triton:
        while regions(url):
            with contextlib.suppress(InferenceServerException):
                triton.unregister_system_shared_memory()
            time.sleep(0.01)


def layout() -> NDArray[np.uint8]:
    return RNG.integers(0, 3, (48, 64), dtype=np.uint8)


def test_pictures_are_the_same_and_nothing_is_left(triton: serving.TritonServer, tiny_palette: Palette) -> None:
    targets = [layout() for _ in range(24)]
    with SynthesisClient(triton.grpc_url, shared_memory=True) as caller:
        with ThreadPoolExecutor(4) as pool:
            pictures = list(pool.map(lambda ids: np.asarray(caller.synthesize("tiny", ids)), targets))
        for ids, picture in zip(targets, pictures, strict=True):
            np.testing.assert_array_equal(picture, tiny_palette.render(ids))
        assert 1 <= regions(triton.grpc_url) <= 4, "reused, one for each call at once"
        assert names() == [], "the name goes as soon as the server has opened it"
    assert regions(triton.grpc_url) == 0


def test_the_asyncio_client_takes_it_too(triton: serving.TritonServer, tiny_palette: Palette) -> None:
    async def call() -> None:
        async with AsyncSynthesisClient(triton.grpc_url, shared_memory=True) as caller:
            targets = [layout() for _ in range(6)]
            pictures = await asyncio.gather(*(caller.synthesize("tiny", ids) for ids in targets))
            for ids, picture in zip(targets, pictures, strict=True):
                np.testing.assert_array_equal(np.asarray(picture), tiny_palette.render(ids))
            assert regions(triton.grpc_url) > 0

    asyncio.run(call())
    assert regions(triton.grpc_url) == 0


def test_cancelled_calls_leave_nothing_either(triton: serving.TritonServer) -> None:
    async def call() -> None:
        async with AsyncSynthesisClient(triton.grpc_url, shared_memory=True) as caller:
            await caller.synthesize("tiny", layout())
            tasks = [asyncio.create_task(caller.synthesize("tiny", layout())) for _ in range(8)]
            await asyncio.sleep(0.002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await caller.synthesize("tiny", layout())

    asyncio.run(call())
    assert regions(triton.grpc_url) == 0
    assert names() == []


def test_auto_takes_it_for_large_pictures_of_this_machine(
    triton: serving.TritonServer, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    width = AUTO_MIN_PIXELS // 100
    serving.publish(make_bundle(tmp_path / "large", name="large", height=100, width=width), triton.repository)
    serving.load_model(triton.grpc_url, "large")
    ids = RNG.integers(0, 3, (100, width), dtype=np.uint8)
    with SynthesisClient(triton.grpc_url) as caller:
        caller.synthesize("tiny", layout())
        assert regions(triton.grpc_url) == 0
        picture = np.asarray(caller.synthesize("large", ids))
        assert regions(triton.grpc_url) == 1
    with SynthesisClient(triton.grpc_url, shared_memory=False) as caller:
        np.testing.assert_array_equal(np.asarray(caller.synthesize("large", ids)), picture)
        assert regions(triton.grpc_url) == 0
    with InferenceServerClient(triton.grpc_url) as bare:
        bare.unload_model("large")


def test_a_server_that_forgot_the_region_is_asked_without(triton: serving.TritonServer, tiny_palette: Palette) -> None:
    """As one does that was started anew."""
    with SynthesisClient(triton.grpc_url, shared_memory=True) as caller:
        caller.synthesize("tiny", layout())
        forget_all(triton.grpc_url)
        for _ in range(2):
            ids = layout()
            np.testing.assert_array_equal(np.asarray(caller.synthesize("tiny", ids)), tiny_palette.render(ids))
        assert regions(triton.grpc_url) == 1, "and given another one"


def test_a_server_that_restricts_it_is_asked_without(
    locked_triton: serving.TritonServer, certificates: Path, tiny_palette: Palette
) -> None:
    tls = TlsOptions(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    key = read_admin_key(certificates / "admin.key")
    access = {"creds": tls.credentials(), "headers": serving.ServerAccess(tls, key).headers}
    for admin_key, expected in ((None, 0), (key, 1)):
        with SynthesisClient(locked_triton.grpc_url, tls=tls, admin_key=admin_key, shared_memory=True) as caller:
            ids = layout()
            np.testing.assert_array_equal(np.asarray(caller.synthesize("tiny", ids)), tiny_palette.render(ids))
            assert regions(locked_triton.grpc_url, **access) == expected


def test_a_server_without_it_is_asked_without_and_not_asked_again() -> None:
    with running(FakeTriton()) as fake, SynthesisClient(fake.url, shared_memory=True) as caller:
        began = time.monotonic()
        for _ in range(2):
            assert pixels(caller) == IDS.tolist()
        assert time.monotonic() - began < 2
        assert fake.requests.count("infer") == 2
    assert names() == []


def test_a_machine_without_it_goes_without(
    triton: serving.TritonServer, tiny_palette: Palette, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "absent")
    with SynthesisClient(triton.grpc_url, shared_memory=True) as caller:
        ids = layout()
        np.testing.assert_array_equal(np.asarray(caller.synthesize("tiny", ids)), tiny_palette.render(ids))


def test_another_folder_is_another_machine(
    triton: serving.TritonServer, tiny_palette: Palette, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server looks for the name in its own /dev/shm, as one in a container does."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    with SynthesisClient(triton.grpc_url, shared_memory=True) as caller:
        ids = layout()
        np.testing.assert_array_equal(np.asarray(caller.synthesize("tiny", ids)), tiny_palette.render(ids))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:8001", True),
        ("127.9.9.9:8001", True),
        ("localhost:8001", True),
        ("[::1]:8001", True),
        ("unix:/run/triton.sock", True),
        ("10.0.0.1:8001", False),
        ("triton.example.org:8001", False),
        ("localhost.example.org:8001", False),
    ],
)
def test_only_loopback_is_surely_this_machine(url: str, expected: bool) -> None:
    assert is_this_machine(url) is expected


def test_other_wishes_are_refused() -> None:
    with pytest.raises(ClientSettingsError, match="'auto', True or False"):
        SynthesisClient(shared_memory="always")  # type: ignore[arg-type]  # as a caller without a type checker might


LARGE = (427, 640)
"""More pixels than `AUTO_MIN_PIXELS`."""


def count_wrong(client: SynthesisClient, seed: int, threads: int, calls: int) -> int:
    """How many of some pictures of class ids, other ones for every seed, are another call's."""

    def is_wrong(call: int) -> bool:
        ids = np.full(LARGE, (seed + call) % 3, np.uint8)
        ids[: 10 * seed + call + 1] = (seed + call + 1) % 3
        return not np.array_equal(np.asarray(client.synthesize("large", ids)), TINY_PALETTE.array[ids])

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(is_wrong, range(calls)))


def report_wrong(client: SynthesisClient, seed: int, threads: int, found: Any) -> None:
    found.put(count_wrong(client, seed, threads, 16))


@pytest.fixture(scope="module")
def large(triton: serving.TritonServer, make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The server's URL, once it serves a model of 427x640 pixels."""
    bundle = make_bundle(tmp_path_factory.mktemp("large") / "large", name="large", height=LARGE[0], width=LARGE[1])
    serving.publish(bundle, triton.repository)
    serving.load_model(triton.grpc_url, "large")
    return triton.grpc_url


def in_a_new_process(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function where no other test's asyncio client is alive: gRPC cannot be forked beside one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(function, *arguments).result(timeout=180)


def share_a_client(large: str, method: str, threads: int) -> None:
    with SynthesisClient(large) as client:
        assert count_wrong(client, 0, threads, 4) == 0
        context: Any = multiprocessing.get_context(method)
        found = context.Queue()
        children = [context.Process(target=report_wrong, args=(client, seed, threads, found)) for seed in (1, 2, 3)]
        for child in children:
            child.start()
        assert count_wrong(client, 4, threads, 16) == 0, "the parent goes on meanwhile"
        assert [found.get(timeout=120) for _ in children] == [0, 0, 0]
        for child in children:
            child.join(10)
        assert count_wrong(client, 0, threads, 4) == 0, "what the children closed was not the parent's"


@pytest.mark.parametrize(("method", "threads"), [("fork", 1), ("fork", 16), ("forkserver", 4), ("spawn", 4)])
def test_processes_that_share_a_client_get_their_own_pictures(large: str, method: str, threads: int) -> None:
    """As with gunicorn --preload, multiprocessing, Celery, PyTorch's loaders."""
    in_a_new_process(share_a_client, large, method, threads)


def close_in_a_child(large: str) -> None:
    context = multiprocessing.get_context("fork")
    others = regions(large)  # of processes that ended without closing their clients
    with SynthesisClient(large) as client:
        count_wrong(client, 0, 1, 1)
        child = context.Process(target=client.close)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        assert regions(large) == others + 1
        assert count_wrong(client, 0, 1, 4) == 0
    assert regions(large) == others
    with pytest.raises(ClientUseError, match="is closed: make a new one"):
        client.models()
    client.close()


def test_a_child_that_closes_an_inherited_client_leaves_the_parents_alone(large: str) -> None:
    in_a_new_process(close_in_a_child, large)

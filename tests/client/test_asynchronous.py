"""The asyncio client: against a real Triton, and against a server that can be slow."""

import asyncio
import gc
import time
import weakref
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from semia import serving
from semia.client import (
    AsyncSynthesisClient,
    ClientSettingsError,
    ClientUseError,
    DeadlineExceededError,
    RetryOptions,
    ServerRefusedError,
    ServerUnavailableError,
    TargetSizeError,
    UnknownModelError,
)
from semia.core.palette import Palette
from tests.client.test_connection import IDS, FakeTriton, running

SOON = RetryOptions(attempts=3, first_wait_s=0.02)


def test_every_call_of_the_client_awaited(triton: serving.TritonServer, tiny_palette: Palette, tmp_path: Path) -> None:
    ids = np.full((48, 64), 2, dtype=np.uint8)
    path = tmp_path / "target.png"
    Image.fromarray(tiny_palette.render(ids)).save(path)

    async def call() -> None:
        async with AsyncSynthesisClient(triton.grpc_url) as client:
            assert "tiny" in await client.models()
            assert (await client.describe("tiny")).palette == tiny_palette
            assert np.array_equal(await client.class_ids("tiny", path), ids)
            for target in (ids, path):
                assert np.array_equal(np.asarray(await client.synthesize("tiny", target)), tiny_palette.render(ids))
            assert np.array_equal(
                np.asarray(await client.synthesize("tiny", ids, version="1")), tiny_palette.render(ids)
            )
            with pytest.raises(UnknownModelError, match="tiny"):
                await client.synthesize("castle", ids)
            with pytest.raises(TargetSizeError):
                await client.synthesize("tiny", ids.T)

    asyncio.run(call())


def test_calls_at_once_do_not_wait_for_each_other() -> None:
    async def call(url: str) -> float:
        async with AsyncSynthesisClient(url) as client:
            await client.describe("fake")
            began = time.monotonic()
            pictures = await asyncio.gather(*(client.synthesize("fake", IDS) for _ in range(4)))
            assert [np.asarray(picture)[..., 0].tolist() for picture in pictures] == [IDS.tolist()] * 4
            return time.monotonic() - began

    with running(FakeTriton(delay_s=0.3)) as fake:
        assert asyncio.run(call(fake.url)) < 0.9


def test_a_cancelled_call_ends_on_the_server_too() -> None:
    async def call(fake: FakeTriton) -> None:
        async with AsyncSynthesisClient(fake.url) as client:
            await client.describe("fake")
            task = asyncio.create_task(client.synthesize("fake", IDS))
            while "infer" not in fake.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(fake.ended_early.wait, 5), "the server was not told"
            fake.delay_s = 0
            assert (await client.synthesize("fake", IDS)).size == (6, 4)

    with running(FakeTriton(delay_s=0.4)) as fake:
        asyncio.run(call(fake))


def test_errors_are_the_same_ones() -> None:
    async def call(fake: FakeTriton) -> None:
        async with AsyncSynthesisClient(fake.url, timeout_s=0.3, retries=SOON) as client:
            await client.describe("fake")
            fake.refuses_with = grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(ServerRefusedError, match="the reason"):
                await client.synthesize("fake", IDS)
            fake.requests.clear()
            fake.refuses_with, fake.refusals = grpc.StatusCode.UNAVAILABLE, 2
            await client.synthesize("fake", IDS)
            assert fake.requests == ["infer"] * 3
            fake.refuses_with, fake.delay_s = None, 0.5
            with pytest.raises(DeadlineExceededError):
                await client.synthesize("fake", IDS)

    with running(FakeTriton()) as fake:
        asyncio.run(call(fake))

    async def call_nobody() -> None:
        async with AsyncSynthesisClient(fake.url, retries=SOON) as client:
            with pytest.raises(ServerUnavailableError, match="semia serve"):
                await client.synthesize("fake", IDS)

    asyncio.run(call_nobody())
    with pytest.raises(ClientSettingsError, match="HOST:PORT"):
        AsyncSynthesisClient("nowhere")


def test_a_client_may_be_made_anywhere_and_used_in_one_loop_after_the_other() -> None:
    with running(FakeTriton()) as fake:
        client = AsyncSynthesisClient(fake.url, shared_memory=True)
        for _ in range(2):
            assert asyncio.run(client.synthesize("fake", IDS)).size == (6, 4)
        asyncio.run(client.close())
        asyncio.run(client.close())
        with pytest.raises(ClientUseError, match="is closed: make a new one"):
            asyncio.run(client.models())


def test_a_client_of_another_running_loop_is_refused() -> None:
    async def call(client: AsyncSynthesisClient) -> None:
        await client.synthesize("fake", IDS)
        with pytest.raises(ClientUseError, match="belongs to another event loop: make one in each"):
            await asyncio.to_thread(lambda: asyncio.run(client.synthesize("fake", IDS)))
        await client.synthesize("fake", IDS)
        await client.close()

    with running(FakeTriton()) as fake:
        asyncio.run(call(AsyncSynthesisClient(fake.url)))


def test_closing_ends_calls_in_flight_with_an_error_of_ours() -> None:
    async def call(fake: FakeTriton) -> None:
        client = AsyncSynthesisClient(fake.url)
        await client.describe("fake")
        task = asyncio.create_task(client.synthesize("fake", IDS))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(ClientUseError, match="is closed"):
            await task

    with running(FakeTriton(delay_s=1.0)) as fake:
        asyncio.run(call(fake))


def test_a_call_that_failed_does_not_keep_the_connection() -> None:
    """A garbage collector in a forked process would end it there, where gRPC waits forever for threads it has not."""

    async def call(fake: FakeTriton) -> "weakref.ref[object]":
        client = AsyncSynthesisClient(fake.url)
        await client.describe("fake")
        assert client._live is not None
        connection = weakref.ref(client._live.triton)
        task = asyncio.create_task(client.synthesize("fake", IDS))
        await asyncio.sleep(0.1)
        await client.close()
        await asyncio.wait([task])
        assert isinstance(task.exception(), ClientUseError)
        return connection

    with running(FakeTriton(delay_s=1.0)) as fake:
        gc.disable()
        try:
            assert asyncio.run(call(fake))() is None
        finally:
            gc.enable()

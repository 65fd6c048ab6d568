"""Many targets at once, blocking and awaiting."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from semia import serving
from semia.client import (
    AsyncSynthesisClient,
    ClientSettingsError,
    Outcome,
    SynthesisClient,
    Target,
    TargetTypeError,
    UnreadableTargetError,
)
from semia.core.palette import Palette
from tests.client.test_connection import IDS, FakeTriton, running

BAD = 7


def layouts(count: int) -> Iterator[NDArray[np.uint8]]:
    for index in range(count):
        yield np.full((48, 64), index % 3, dtype=np.uint8)


def check(outcomes: list[Outcome], palette: Palette) -> None:
    assert [outcome.index for outcome in outcomes] == list(range(24))
    for outcome in outcomes:
        if outcome.index == BAD:
            assert isinstance(outcome.error, UnreadableTargetError)
            assert outcome.picture is None
            assert outcome.target == "absent.png"
            with pytest.raises(UnreadableTargetError, match=r"absent\.png"):
                outcome.unwrap()
        else:
            ids = np.full((48, 64), outcome.index % 3, dtype=np.uint8)
            assert np.array_equal(np.asarray(outcome.unwrap()), palette.render(ids))
            assert (outcome.error, outcome.version) == (None, "1")


def test_outcomes_come_in_order_and_one_bad_target_loses_no_other(
    triton: serving.TritonServer, tiny_palette: Palette
) -> None:
    targets: list[Target] = [*layouts(24)]
    targets[BAD] = "absent.png"
    done: list[int] = []
    with SynthesisClient(triton.grpc_url) as client:
        card = client.describe("tiny").model_card_sha256
        outcomes = list(client.synthesize_many("tiny", targets, concurrency=3, on_progress=done.append))
    check(outcomes, tiny_palette)
    assert done == list(range(1, 25))
    assert outcomes[0].model_card_sha256 == card
    assert outcomes[0].duration_s > 0

    async def call() -> list[Outcome]:
        async def each() -> AsyncIterator[Target]:
            for target in targets:
                yield target

        done.clear()
        async with AsyncSynthesisClient(triton.grpc_url) as client:
            plain = [outcome async for outcome in client.synthesize_many("tiny", targets, on_progress=done.append)]
            assert [outcome.index for outcome in plain] == list(range(24))
            return [outcome async for outcome in client.synthesize_many("tiny", each(), concurrency=3)]

    check(asyncio.run(call()), tiny_palette)
    assert done == list(range(1, 25))


class Counting(FakeTriton):
    """Counts the inferences that it works on at once."""

    def __init__(self) -> None:
        super().__init__(delay_s=0.05)
        self.now = self.most = 0
        self.lock = threading.Lock()

    def model_infer(self, request: object, context: object) -> object:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return super().model_infer(request, context)  # type: ignore[arg-type]  # it only passes them on
        finally:
            with self.lock:
                self.now -= 1


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    async def call(url: str) -> int:
        async with AsyncSynthesisClient(url) as client:
            return len([outcome async for outcome in client.synthesize_many("fake", [IDS] * 9, concurrency=3)])

    with running(Counting()) as fake:
        assert isinstance(fake, Counting)
        with SynthesisClient(fake.url) as client:
            assert (
                sum(1 for outcome in client.synthesize_many("fake", [IDS] * 9, concurrency=3) if outcome.picture) == 9
            )
        assert fake.most == 3
        fake.most = 0
        assert asyncio.run(call(fake.url)) == 9
        assert fake.most == 3


def test_targets_are_taken_only_as_pictures_are() -> None:
    taken: list[int] = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            taken.append(len(taken))
            yield IDS

    async def call(url: str) -> None:
        async with AsyncSynthesisClient(url) as client:
            many = client.synthesize_many("fake", endless(), concurrency=2)
            async with contextlib.aclosing(many) as outcomes:
                for _ in range(3):
                    assert (await anext(outcomes)).picture is not None
                    await asyncio.sleep(0.05)

    with running(FakeTriton()) as fake:
        with SynthesisClient(fake.url) as client:
            outcomes = client.synthesize_many("fake", endless(), concurrency=2)
            assert taken == [], "nothing before the first is asked for"
            for _ in range(3):
                assert next(outcomes).picture is not None
                time.sleep(0.05)
            del outcomes
            sent = fake.requests.count("infer")
            assert 3 <= sent <= len(taken) <= 2 + 2 * 2
            time.sleep(0.1)
            assert fake.requests.count("infer") == sent, "leaving it begins no further call"
        taken.clear()
        asyncio.run(call(fake.url))
        assert len(taken) <= 2 + 2 * 2


@pytest.mark.parametrize("concurrency", [0, -1, 1001])
def test_impossible_bounds_are_refused(concurrency: int) -> None:
    with SynthesisClient() as client, pytest.raises(ClientSettingsError, match="concurrency"):
        client.synthesize_many("fake", [IDS], concurrency=concurrency)


def test_an_error_in_the_targets_is_the_callers() -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield IDS
        raise LookupError("the caller's own")

    with running(FakeTriton()) as fake, SynthesisClient(fake.url) as client, pytest.raises(LookupError):
        list(client.synthesize_many("fake", broken()))


def test_what_is_no_target_is_an_outcome(triton: serving.TritonServer) -> None:
    with SynthesisClient(triton.grpc_url) as client:
        (outcome,) = client.synthesize_many("tiny", [np.full((48, 64), 9, dtype=np.uint8)])
        assert isinstance(outcome.error, TargetTypeError)

"""Repetitions, and nothing but what may be repeated: a server that counts, and a real one that is started anew."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from semia.client import (
    ClientSettingsError,
    DeadlineExceededError,
    RetryOptions,
    ServerRefusedError,
    ServerUnavailableError,
    SynthesisClient,
)
from tests.client.test_connection import IDS, FakeTriton, pixels, running

SOON = RetryOptions(attempts=4, first_wait_s=0.02, longest_wait_s=0.1)


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with running(FakeTriton()) as server:
        yield server


def test_a_call_succeeds_once_the_server_is_available(fake: FakeTriton) -> None:
    with SynthesisClient(fake.url, retries=SOON) as client:
        client.describe("fake")
        fake.requests.clear()
        fake.refuses_with, fake.refusals = grpc.StatusCode.UNAVAILABLE, 3
        assert pixels(client) == IDS.tolist()
    assert fake.requests == ["infer"] * 4


def test_what_shared_a_batch_with_another_callers_mistake_is_repeated(fake: FakeTriton) -> None:
    """As `tests.serving.test_hostile_input` has Triton answer."""
    with SynthesisClient(fake.url, retries=SOON) as client:
        client.describe("fake")
        fake.refuses_with, fake.refusals = grpc.StatusCode.INTERNAL, 2
        fake.reason = "batch size 49 for 'tiny_0_0', max allowed is 8"
        assert pixels(client) == IDS.tolist()


def test_it_gives_up_after_so_many_attempts(fake: FakeTriton) -> None:
    fake.refuses_with = grpc.StatusCode.UNAVAILABLE
    with SynthesisClient(fake.url, retries=SOON) as client, pytest.raises(ServerRefusedError, match="the reason"):
        client.synthesize("fake", IDS)
    assert fake.requests.count("infer") == SOON.attempts


@pytest.mark.parametrize(
    "status", [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)]
)
def test_nothing_else_is_repeated(fake: FakeTriton, status: grpc.StatusCode) -> None:
    fake.refuses_with = status
    with SynthesisClient(fake.url, retries=SOON) as client:
        client.describe("fake")
        with pytest.raises((ServerRefusedError, DeadlineExceededError)):
            client.synthesize("fake", IDS)
    assert fake.requests.count("infer") == 1


def test_the_deadline_bounds_the_attempts(fake: FakeTriton) -> None:
    slowly = RetryOptions(attempts=5, first_wait_s=1.0, longest_wait_s=1.0)
    with SynthesisClient(fake.url, retries=slowly, timeout_s=0.4) as client:
        client.describe("fake")
        fake.refuses_with, began = grpc.StatusCode.UNAVAILABLE, time.monotonic()
        with pytest.raises(ServerRefusedError, match="the reason"):
            client.synthesize("fake", IDS)
        assert time.monotonic() - began < 0.4, "a wait that would outlast the deadline is not begun"


def test_a_server_that_is_started_anew_is_not_noticed() -> None:
    fake = FakeTriton()
    with running(fake):
        client = SynthesisClient(fake.url)
        client.describe("fake")
    with pytest.raises(ServerUnavailableError), SynthesisClient(fake.url, retries=RetryOptions(1)) as impatient:
        impatient.synthesize("fake", IDS)
    with client, ThreadPoolExecutor(1) as pool:
        picture = pool.submit(pixels, client)
        time.sleep(0.3)
        assert not picture.done()
        with running(fake, fake.url):
            assert picture.result() == IDS.tolist()


def test_an_overloaded_server_is_left_alone(fake: FakeTriton) -> None:
    """Where everything fails, repetitions stop: at worst one attempt a call is left."""
    fake.refuses_with = grpc.StatusCode.UNAVAILABLE
    quickly = RetryOptions(attempts=5, first_wait_s=0.01, longest_wait_s=0.01)
    with SynthesisClient(fake.url, retries=quickly) as client:
        client.describe("fake")
        for _ in range(30):
            with pytest.raises(ServerRefusedError):
                client.synthesize("fake", IDS)
    assert fake.requests.count("infer") < 90, "150 without the limit, 80 with it"


def test_waits_grow_and_differ() -> None:
    options = RetryOptions(attempts=5, first_wait_s=0.1, longest_wait_s=0.5, factor=2)
    for _ in range(20):
        for wait_s, expected_s in zip(options.waits_s(), (0.1, 0.2, 0.4, 0.5), strict=True):
            assert 0.79 * expected_s < wait_s < 1.21 * expected_s
    assert len({next(options.waits_s()) for _ in range(20)}) == 20
    assert list(RetryOptions(attempts=1).waits_s()) == []


@pytest.mark.parametrize(
    "settings", [{"attempts": 0}, {"attempts": 101}, {"first_wait_s": 0.0}, {"longest_wait_s": 0.01}, {"factor": 0.5}]
)
def test_impossible_repetitions_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ClientSettingsError):
        RetryOptions(**settings)  # type: ignore[arg-type]  # `attempts` is an int, in all of them

"""Clients that never pause."""

import threading
import time

import numpy as np
import pytest

from semia.bench.load import closed_loop
from semia.labels import ClassIds

LAYOUTS = [np.full((2, 3), class_id, dtype=np.uint8) for class_id in range(3)]


def test_every_call_is_made_once_and_timed() -> None:
    asked: list[int] = []

    def draw(layout: ClassIds) -> None:
        asked.append(int(layout[0, 0]))
        time.sleep(0.005)

    latencies_ms, seconds = closed_loop([draw], LAYOUTS, 7)
    assert asked == [0, 1, 2, 0, 1, 2, 0]
    assert len(latencies_ms) == 7
    assert min(latencies_ms) >= 5
    assert seconds >= sum(latencies_ms) / 1000


def test_clients_call_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)  # breaks unless three are in it at once
    latencies_ms, _ = closed_loop([lambda _: together.wait()] * 3, LAYOUTS, 9)
    assert len(latencies_ms) == 9


def test_a_clients_failure_is_not_swallowed() -> None:
    def fail(_: ClassIds) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        closed_loop([fail, fail], LAYOUTS, 4)

"""Clients that never pause."""

import threading
import time

import numpy as np
import pytest

from semia.bench.load import closed_loop
from semia.core.labels import ClassIds

LAYOUTS = [np.full((2, 3), class_id, dtype=np.uint8) for class_id in range(3)]


def test_one_clients_calls_follow_each_other_and_the_first_is_not_measured() -> None:
    asked: list[int] = []

    def draw(layout: ClassIds) -> None:
        time.sleep(0.005 if asked else 0.5)
        asked.append(int(layout[0, 0]))

    latencies_ms, seconds = closed_loop([draw], LAYOUTS, 6)
    assert asked == [0, 1, 2, 0, 1, 2, 0]
    assert len(latencies_ms) == 6
    assert min(latencies_ms) >= 5
    assert sum(latencies_ms) / 1000 <= seconds < 0.5


def test_clients_call_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)  # breaks unless three are in it at once
    asked: list[ClassIds] = []

    def draw(layout: ClassIds) -> None:
        asked.append(layout)
        if len(asked) <= 9:
            together.wait()

    latencies_ms, _ = closed_loop([draw] * 3, LAYOUTS, 9)
    assert len(latencies_ms) == 9
    assert len(asked) == 3 + 9 + 2


def test_a_clients_failure_is_not_swallowed() -> None:
    def fail(_: ClassIds) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        closed_loop([fail, fail], LAYOUTS, 4)

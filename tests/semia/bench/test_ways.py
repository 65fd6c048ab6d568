"""Clients that never pause, and a process that draws."""

import functools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from semia.bench.ways import InWorker, closed_loop, open_session
from semia.core.errors import SemiaError
from semia.core.labels import ClassIds
from semia.export.errors import ExportError

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


DRAWN = [np.zeros((48, 64), dtype=np.uint8)]


def worker(bundle: Path) -> InWorker:
    return InWorker("onnxruntime", functools.partial(open_session, bundle, 1), DRAWN)


def test_it_draws_in_another_process_and_ends(tiny_bundle: Path) -> None:
    way = worker(tiny_bundle)
    assert len(way.draw(1, 3).latencies_ms) == 3
    assert len(way.draw(4, 8).latencies_ms) == 8
    assert way.peak_memory_mb() is not None
    way.close()
    assert way.peak_memory_mb() is None


def test_its_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot load"):
        worker(tmp_path)
    with pytest.raises(SemiaError, match="TypeError"):
        InWorker("eager", functools.partial(int, []), DRAWN)  # type: ignore[arg-type]  # the mistake is the point


def test_its_death_is_noticed(tiny_bundle: Path) -> None:
    way = worker(tiny_bundle)
    os.kill(way.pid, signal.SIGKILL)
    with pytest.raises(SemiaError, match="has died"):
        way.draw(1, 1)
    way.close()

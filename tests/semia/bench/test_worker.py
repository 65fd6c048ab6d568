"""A process that draws."""

import functools
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from semia.bench.load import Worker
from semia.bench.ways import onnxruntime_way
from semia.core.errors import SemiaError
from semia.export.errors import ExportError

LAYOUTS = [np.zeros((48, 64), dtype=np.uint8)]


def test_it_draws_in_another_process_and_ends(tiny_bundle: Path) -> None:
    way = onnxruntime_way(tiny_bundle, LAYOUTS, threads=1)
    assert len(way.draw(1, 3).latencies_ms) == 3
    assert len(way.draw(4, 8).latencies_ms) == 8
    assert way.peak_memory_mb() is not None
    way.close()
    assert way.peak_memory_mb() is None


def test_its_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot load"):
        onnxruntime_way(tmp_path, LAYOUTS, threads=1)
    with pytest.raises(SemiaError, match="TypeError"):
        Worker(functools.partial(int, []), LAYOUTS)  # type: ignore[arg-type]  # the mistake is the point


def test_its_death_is_noticed(tiny_bundle: Path) -> None:
    way = onnxruntime_way(tiny_bundle, LAYOUTS, threads=1)
    os.kill(way.pid, signal.SIGKILL)
    with pytest.raises(SemiaError, match="has died"):
        way.draw(1, 1)
    way.close()

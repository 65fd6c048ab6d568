"""What is kept of measurements."""

from pathlib import Path

import pytest

from semia.bench.records import Benchmark, Turn, pooled
from semia.bench.ways import Round
from semia.core.errors import InputError


def test_what_is_written_is_what_is_read(benchmark: Benchmark, tmp_path: Path) -> None:
    benchmark.write(tmp_path / "bench.json")
    assert Benchmark.read(tmp_path / "bench.json") == benchmark


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark at"):
        Benchmark.read(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        Benchmark.read(tmp_path / "other.json")


def test_rounds_are_pooled_not_averaged() -> None:
    quantiles, pictures_per_s = pooled([Round([10.0] * 9, 0.09), Round([100.0], 0.91)])
    assert quantiles["50"] == 10
    assert quantiles["100"] == 100
    assert pictures_per_s == 10


def test_ways_are_compared_round_by_round(benchmark: Benchmark) -> None:
    canvas = benchmark.measurements[0].canvas
    slow, fast = benchmark.find("grpc", canvas), benchmark.find("onnxruntime", canvas)
    assert slow is not None
    assert fast is not None
    assert slow.turns == [Turn(22, 45.5), Turn(27, 22.75), Turn(32, 45.5 / 3)], "the machine grew slower"
    assert slow.added_ms(fast) == 2
    assert slow.kept(fast) == pytest.approx(0.91)
    assert Turn.of(Round([1.0, 2.0, 30.0], 0.5)) == Turn(2.0, 6.0)

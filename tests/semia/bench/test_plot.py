"""The plot is a picture of the benchmark."""

from pathlib import Path

import pytest

from semia.bench.plot import write_plot
from semia.bench.records import Benchmark
from semia.core.errors import ImageError
from semia.core.images import read_rgb


def test_it_has_the_ways_colors(benchmark: Benchmark, tmp_path: Path) -> None:
    write_plot(tmp_path / "bench.png", benchmark)
    picture = read_rgb(tmp_path / "bench.png")
    for color in ((0x88, 0x88, 0x88), (0x1B, 0x9E, 0x77), (0x3B, 0x6F, 0xB6), (0x7A, 0x5C, 0xC0)):
        assert (picture == color).all(axis=2).sum() > 500, color


def test_an_unknown_format_is_refused(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot write"):
        write_plot(tmp_path / "bench.nothing", benchmark)
    assert not list(tmp_path.iterdir())

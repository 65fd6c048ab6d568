"""Reports say what was measured, and docs/performance.md says what the reports say."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from semia.bench.records import Benchmark
from semia.bench.report import BEGIN, END, readme_section, rewrite_readme, screen_tables
from semia.core.errors import InputError

PROJECT = Path(__file__).parents[3]


def test_ratios_are_those_of_the_medians(benchmark: Benchmark) -> None:
    section = readme_section(benchmark)
    assert "| 20.0 ms | 20.9 ms | 21.0 ms | 50.0 | 123 MB | 10.0x |" in section
    assert "| tiny (copying) | matching | 0.500 | 10.0 ms | 50 | 50% |" in section
    assert "| tiny (copying) | joining | 0.000 | 8.0 ms |  |  |" in section
    assert "| tiny (copying) | between kernels |  | 2.0 ms |  |  |" in section
    assert "| tiny (copying) | a large matrix product |  |  | 80 | 80% |" in section
    assert "| tiny (copying) | Triton over gRPC | 45.5 | 76.0 | +2.0 ms | 95% |" in section


def test_the_screen_shows_the_same(benchmark: Benchmark) -> None:
    console = Console(file=StringIO(), width=200)
    console.print(*screen_tables(benchmark))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    for text in ("64x48, one client", "10.0x", "+2.0 ms", "95%"):
        assert text in shown


def test_only_the_marked_part_of_a_readme_changes(benchmark: Benchmark, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    for _ in range(2):
        rewrite_readme(readme, benchmark)
        assert readme.read_text() == f"before\n\n{readme_section(benchmark)}\n\nafter\n"


def test_a_readme_without_markers_is_left_alone(benchmark: Benchmark, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing marked\n")
    with pytest.raises(InputError, match="no place for the figures"):
        rewrite_readme(readme, benchmark)
    assert readme.read_text() == "nothing marked\n"


def test_the_pages_figures_are_those_of_the_committed_run() -> None:
    page = (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert readme_section(Benchmark.read(PROJECT / "examples" / "bench.json")) in page

"""The examples that are programs, run as a person runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ENVIRONMENT

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_triton")
def test_callers_notice_neither_new_versions_nor_other_models(tiny_bundle: Path, tmp_path: Path) -> None:
    figures, plot = tmp_path / "load.json", tmp_path / "load.png"
    options: list[str | Path] = [
        "--minutes",
        "0.2",
        "--callers",
        "2",
        "--every",
        "3",
        "--figures",
        figures,
        "--plot",
        plot,
    ]
    command: list[str | Path] = [sys.executable, "-m", "tests.load.load", tiny_bundle, *options]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    seen = json.loads(figures.read_text())
    assert (seen["failed"], seen["wrong"]) == (0, 0)
    assert list(seen["versions"]) == ["1", "2", "3", "4"], "each version answered in its turn"
    assert seen["side_models"]["loaded"] >= 1
    assert plot.stat().st_size > 10_000

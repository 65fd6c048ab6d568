"""`make gpu-checks`: a dry run of every check that the CPU can run, and what ends a check without figures."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.load import gpu_checks
from tests.load.gpu_checks import CHECKS, Check, run_checks
from tests.load.gpu_measurements import CheckSettings

PAGODA = Path("examples/pagoda").absolute()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.load.gpu_checks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_a_dry_run_measures_all_that_a_cpu_can(tmp_path: Path) -> None:
    figures, sheet = tmp_path / "gpu.json", tmp_path / "gpu.png"
    ended = run(PAGODA, "--dry-run", "--output", figures, "--sheet", sheet)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(figures.read_text())
    checks = report["checks"]
    assert list(checks) == [check.name for check in CHECKS if check.in_dry_run]
    assert report["device"] == "cpu"
    assert checks["copying, PyTorch"]["largest_difference_from_cpu"] == 0
    assert checks["copying, PyTorch"]["eager_ms"] > 0
    assert checks["paper, training in bfloat16"]["iterations_per_s"] > 0
    assert checks["copying, ONNX Runtime"]["largest_difference_from_cpu"] == 0
    assert checks["copying, ONNX Runtime"]["nodes_by_provider"]["CPUExecutionProvider"] > 100
    assert checks["copying, Triton"]["pictures_per_s_of_8_clients"] > 0
    assert "no TensorRT" in checks["copying, TensorRT"]["skipped"]
    with Image.open(sheet) as picture:
        assert picture.width > 1000
    assert "copying, TensorRT: skipped: no TensorRT" in ended.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    ended = run(PAGODA, "--output", tmp_path / "gpu.json")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        "PyTorch sees no NVIDIA GPU on this machine: nothing to check (--dry-run tests the checks themselves)"
    ]
    assert not (tmp_path / "gpu.json").exists()


def test_an_unknown_check_is_refused(tmp_path: Path) -> None:
    ended = run(PAGODA, "--dry-run", "--only", "magic", "--output", tmp_path / "gpu.json")
    assert ended.returncode == 2
    assert "no check magic" in ended.stderr


def test_a_check_that_hangs_or_fails_leaves_the_others_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is the hanging check's own; the failing one has no scene to load."""
    hanging, failing, good = (next(check for check in CHECKS if check.name == name) for name in NAMES)
    limited = Check(hanging.name, hanging.measure, limit_s=0.5)
    monkeypatch.setattr(gpu_checks, "CHECKS", [limited, failing, good])
    settings = CheckSettings(tmp_path / "no scene", 0.1, tmp_path, "cpu")
    told: list[str] = []
    began = time.monotonic()
    report = run_checks(settings, list(NAMES), tmp_path / "gpu.json", told.append)
    assert time.monotonic() - began < 60
    assert report["checks"][hanging.name]["failed"] == "not done after 0 s"
    assert "no scene" in report["checks"][failing.name]["failed"]
    assert report["checks"][good.name]["cores"] >= 1
    assert json.loads((tmp_path / "gpu.json").read_text()) == report
    assert len(told) == 3


def test_when_the_time_is_up_the_rest_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "LIMIT_S", 0)
    report = run_checks(CheckSettings(PAGODA, 0.1, tmp_path, "cpu"), ["machine"], tmp_path / "g.json", lambda _: None)
    assert report["checks"]["machine"]["skipped"] == "the 0 seconds of all checks are over"


NAMES = ("paper, a short run", "copying, PyTorch", "machine")

"""``semia bench`` and ``semia publish --tune`` as a person uses them, with real Tritons."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from semia.bench.measurement import count_rounds, turn_length
from semia.bench.report import BEGIN, END
from semia.core.images import read_rgb
from semia.core.labels import Canvas
from semia.core.machine import process_tree
from semia.serving import list_models
from semia.serving.model_config import settings_from_config
from tests.command import complaint, semia, semia_here

COMMAND = (sys.executable, "-m", "semia")
SCENE_CANVAS = Canvas(44, 60)


def test_models_are_measured_in_every_way_side_by_side(
    embedded_triton: None, trained: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", name="other", height=SCENE_CANVAS.height, width=SCENE_CANVAS.width)
    figures, plot, readme = tmp_path / "bench.json", tmp_path / "bench.png", tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    result = semia(
        *("bench", trained, bundle, "--calls", "5", "--concurrency", "2", "--threads", "1"),
        *("--figures", figures, "--plot", plot, "--readme", readme),
        columns=160,
    )
    assert result.returncode == 0, result.stderr
    assert "no bundle was given" in result.stdout
    assert re.search(r"tiny \(published\)\s+eager PyTorch +\d+\.\d ms", result.stdout)

    content = json.loads(figures.read_text())
    one_client = {"reference", "eager", "onnxruntime", "grpc", "shared memory"}
    assert {each["way"] for each in content["measurements"] if each["clients"] == 1} == one_client
    assert {each["way"] for each in content["measurements"] if each["clients"] == 2} == one_client - {
        "reference",
        "eager",
    }
    assert len(content["subjects"]) == 2
    for each in content["measurements"]:
        quantiles = [*each["quantiles_ms"].values()]
        assert quantiles == sorted(quantiles)
        assert quantiles[0] > 0
        assert each["calls"] == count_rounds(each["clients"]) * turn_length(5, each["clients"])
        assert each["peak_memory_mb"] > 10
    assert content["threads"] == 1
    assert read_rgb(plot).std() > 1

    once = readme.read_text()
    assert "Triton over gRPC" in once
    assert semia("bench", "--figures", figures, "--readme", readme).returncode == 0
    assert readme.read_text() == once


def test_ctrl_c_leaves_no_process_behind(embedded_triton: None, tiny_bundle: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "bench", str(tiny_bundle), "--calls", "100000", "--figures", str(tmp_path / "bench.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as bench:
        deadline = time.monotonic() + 60
        # The session, the published architecture, multiprocessing's tracker, Triton and its stub.
        while len(started := process_tree(bench.pid)) < 6:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        bench.send_signal(signal.SIGINT)
        try:
            _, complaint = bench.communicate(timeout=60)
        finally:
            bench.kill()
    assert bench.returncode == 130
    assert "Traceback" not in complaint
    deadline = time.monotonic() + 10  # for multiprocessing's tracker, which follows its parent into death
    while still := [process for process in started if _is_alive(process)]:
        assert time.monotonic() < deadline, still
        time.sleep(0.1)
    assert not (tmp_path / "bench.json").exists()


def _is_alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path("/proc", str(process), "status").read_text()
    except OSError:
        return False


def test_tuning_writes_its_choice_and_the_reason(embedded_triton: None, tiny_bundle: Path, tmp_path: Path) -> None:
    result = semia("publish", tiny_bundle, "--tune", "--repository", tmp_path)
    assert result.returncode == 0, result.stderr
    (model,) = list_models(tmp_path)
    assert model.problem is None
    text = (tmp_path / model.name / "config.pbtxt").read_text()
    settings = settings_from_config(text)
    assert settings.threads is not None
    assert settings.reason is not None
    assert settings.reason in text.splitlines()[1]
    assert "pictures/s with 8 clients" in settings.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench", "nowhere"), "neither a run folder nor a bundle"),
        (("bench", "--figures", "nowhere.json"), "no benchmark at nowhere.json"),
        (("bench", "x", "--concurrency", "2,x"), "write numbers from 1 to 256"),
        (("bench", "x", "--plot", "x.doc"), "no picture file"),
        (("publish", "x", "--tune", "--threads", "2"), "drop --threads"),
    ],
)
def test_mistakes_get_one_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in complaint(semia_here(*arguments), 2)

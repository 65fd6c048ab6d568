"""A caller installs the client alone, in an empty environment, and calls a running server.

The caller's folder has a ``client.py`` and a ``training/`` of its own, as anybody's may.
"""

import os
import re
import shutil
import subprocess
import venv
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from semia.serving import TritonServer

PROJECT = Path(__file__).parents[2]
NOT_SOURCE = ("build", "bundles", "demo", "model_repository", "runs")

CALL = """
import sys
import numpy as np
from semia import SynthesisClient

with SynthesisClient(sys.argv[1]) as client:
    picture = client.synthesize("tiny", np.zeros((48, 64), dtype=np.uint8))
assert picture.size == (64, 48)
assert picture.getpixel((0, 0)) == (255, 0, 0)
heavy = {"torch", "onnx", "onnxruntime", "semia.serving", "semia.training", "semia.export"} & set(sys.modules)
assert not heavy, heavy
print("served", picture.size)
"""


class Installed(NamedTuple):
    """An environment that has the client, and nothing else of ours."""

    python: Path
    source: Path  # what it was installed from


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installation")
    # A copy, for building leaves its traces in the folder that is built.
    source = shutil.copytree(PROJECT, folder / "source", ignore=shutil.ignore_patterns(".*", *NOT_SOURCE))
    venv.create(folder / "empty", with_pip=True)
    python = folder / "empty" / "bin" / "python"
    install(python, f"{source}[client]")
    return Installed(python, source)


def install(python: Path, *packages: str) -> None:
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        PROJECT / "constraints.txt",
        *packages,
    ]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.timeout(300)
def test_the_client_alone_calls_a_server(installed: Installed, triton: TritonServer, tmp_path: Path) -> None:
    python = installed.python
    packages = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    assert "tritonclient==" in packages
    for heavy in ("torch==", "onnx==", "onnxruntime", "nvidia-pytriton=="):
        assert heavy not in packages
    top_level = {path.name for path in python.parents[1].glob("lib/python*/site-packages/*")}
    assert top_level.isdisjoint({"client", "training", "export", "serving", "tests"}), "a user's names stay free"
    (tmp_path / "client.py").write_text("raise AssertionError('the caller has this for something else')\n")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").touch()
    call = subprocess.run(
        [python, "-c", CALL, triton.grpc_url], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert call.returncode == 0, call.stderr
    assert call.stdout == "served (64, 48)\n"

    Image.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "layout.png")
    command = [str(python.with_name("semia")), "synthesize", "tiny", "layout.png", "--url", triton.grpc_url]
    synthesized = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert synthesized.returncode == 0, synthesized.stderr
    assert (tmp_path / "pictures" / "layout.png").is_file()


@pytest.mark.timeout(300)
def test_the_clients_tests_run_with_the_client_alone(installed: Installed) -> None:
    install(installed.python, "pytest", "pytest-timeout", "trustme")
    options = ["-q", "-m", "not slow and not gpu", "-p", "no:cacheprovider"]
    command: list[str | Path] = [
        installed.python,
        "-m",
        "pytest",
        *options,
        "tests/client",
        f"--ignore=tests/client/{Path(__file__).name}",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=installed.source, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-4000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) >= 100, "only those that need a Triton are skipped"

"""A caller installs the client alone, in an empty environment, and calls a running server.

The caller's folder has a ``client.py`` and a ``training/`` of its own, as anybody's may.
"""

import shutil
import subprocess
import venv
from pathlib import Path

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


@pytest.mark.timeout(300)
def test_the_client_alone_calls_a_server(triton: TritonServer, tmp_path: Path) -> None:
    # A copy, for building leaves its traces in the folder that is built.
    source = shutil.copytree(PROJECT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", *NOT_SOURCE))
    environment = tmp_path / "empty"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-c", PROJECT / "constraints.txt", f"{source}[client]"],
        check=True,
        capture_output=True,
    )
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    assert "tritonclient==" in installed
    for heavy in ("torch==", "onnx==", "onnxruntime", "nvidia-pytriton==", "aiohttp==", "scikit-image=="):
        assert heavy not in installed
    top_level = {path.name for path in environment.glob("lib/python*/site-packages/*")}
    ours = {"client", "training", "export", "serving", "studio", "tests"}
    assert top_level.isdisjoint(ours), "a user's names stay free"
    page = {path.name for path in environment.glob("lib/python*/site-packages/semia/studio/page/*")}
    assert {"index.html", "main.js", "studio.css", "core", "editor", "rooms"} <= page, "the wheel has the studio's page"
    (tmp_path / "client.py").write_text("raise AssertionError('the caller has this for something else')\n")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").touch()
    call = subprocess.run(
        [python, "-c", CALL, triton.grpc_url], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert call.returncode == 0, call.stderr
    assert call.stdout == "served (64, 48)\n"

    Image.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "layout.png")
    command = [str(environment / "bin" / "semia"), "synthesize", "tiny", "layout.png", "--url", triton.grpc_url]
    synthesized = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert synthesized.returncode == 0, synthesized.stderr
    assert (tmp_path / "pictures" / "layout.png").is_file()

    # The command is there too, and says what is missing for the rest.
    models = subprocess.run(
        [environment / "bin" / "semia", "models", "--url", triton.grpc_url],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "tiny" in models.stdout
    train = subprocess.run(
        [environment / "bin" / "semia", "export", "run"], check=False, capture_output=True, text=True
    )
    assert "pip install 'semia[" in train.stderr

"""The whole way: scene folder, training, export, publishing, a real Triton, gRPC, and the same picture as PyTorch."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semia.client import SynthesisClient
from semia.core.images import read_rgb
from semia.serving import ServerOptions, TritonServer
from tests.command import semia

TOLERANCE = 2
"""Of 255, as in the export's own check."""


@pytest.mark.usefixtures("embedded_triton")
@pytest.mark.parametrize(
    ("options", "generator", "iterations"),
    [((), "copying", None), (("--preset", "paper-short", "--iterations", "2"), "published", 2)],
)
def test_a_photograph_becomes_a_server_that_draws_what_pytorch_draws(
    scene_folder: Path,
    tmp_path: Path,
    server_options: Callable[[], ServerOptions],
    options: tuple[str, ...],
    generator: str,
    iterations: int | None,
) -> None:
    run, repository = tmp_path / "run", tmp_path / "model_repository"
    result = semia(
        *("train-and-export", scene_folder, "--name", "scene"),
        *("--run", run, "--bundle", tmp_path / "bundle", "--repository", repository),
        *options,
    )
    assert result.returncode == 0, result.stderr
    assert "model scene, version 1" in result.stdout

    target = scene_folder / "cond" / "moved.png"
    result = semia("render", run, "--targets", scene_folder / "cond", "--out", tmp_path / "pytorch")
    assert result.returncode == 0, result.stderr
    expected = read_rgb(tmp_path / "pytorch" / "moved.png")

    with TritonServer(repository, server_options()) as server, SynthesisClient(server.grpc_url) as client:
        assert client.models() == ["scene"]
        description = client.describe("scene")
        served = np.asarray(client.synthesize("scene", target))
        again = np.asarray(client.synthesize("scene", client.class_ids("scene", target)))

    assert description.canvas == expected.shape[:2]
    assert np.abs(served.astype(int) - expected.astype(int)).max() <= TOLERANCE
    assert np.array_equal(served, again)
    assert served.std() > 1  # a picture, not a flat color

    card = json.loads((repository / "scene" / "1" / "model_card.json").read_text())
    assert (card["generator"], card["iterations"]) == (generator, iterations)
    assert max(entry["max_abs"] for entry in card["parity"]) <= TOLERANCE

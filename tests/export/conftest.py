"""A trained run, small and made once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from semia.export.exporter import export_run
from semia.export.graphs.published import SynthesisGraph
from semia.export.onnx_writer import write_onnx
from semia.training.loop import train
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, scene: Scene, settings: TrainingSettings) -> RunFolder:
    """A run of three iterations; shared, so do not change it."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    folder = RunFolder.create(path, scene, dataclasses.replace(settings, iterations=3), seed=0)
    assert train(folder, torch.device("cpu"))
    return folder


@pytest.fixture(scope="session")
def exported(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's bundle; shared, so do not change it."""
    folder = tmp_path_factory.mktemp("bundles") / "exported"
    export_run(run, folder)
    return folder


@pytest.fixture(scope="session")
def write_once() -> Callable[[SynthesisGraph, Path, int], None]:
    """`write_onnx` for half-precision graphs of the run: one of each operator set is exported, for all tests."""
    graphs: dict[int, bytes] = {}

    def write(graph: SynthesisGraph, path: Path, opset: int) -> None:
        if opset not in graphs:
            write_onnx(graph, path, opset)
            graphs[opset] = path.read_bytes()
        path.write_bytes(graphs[opset])

    return write

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.labels import Canvas
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.export import exporter as bundle_module
from semia.export.errors import ExportError, ParityError
from semia.export.exporter import export_run
from semia.training.evaluation_file import EVALUATION_FILE, Evaluation, Figures
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from tests.conftest import SmallDisk


def test_a_bundle_is_whole_and_says_what_it_is(run: RunFolder, exported: Path, scene: Scene) -> None:
    assert sorted(path.name for path in exported.iterdir()) == [MODEL_FILE, CARD_FILE]
    card = ModelCard.read(exported / CARD_FILE)
    assert card.name == scene.name
    assert card.generator == "published"
    assert card.canvas == scene.canvas
    assert card.to_palette() == scene.palette
    assert card.graph_sha256 == sha256_of_file(exported / MODEL_FILE)
    assert card.generator_sha256 == run.generator_sha256()
    assert [entry.target for entry in card.parity] == ["source", "mirrored", "moved"]
    assert max(entry.max_abs for entry in card.parity) <= 2


def test_the_graph_keeps_its_contract(exported: Path, scene: Scene) -> None:
    model = onnx.load(exported / MODEL_FILE, load_external_data=False)
    assert {tensor.data_location for tensor in model.graph.initializer} == {onnx.TensorProto.DEFAULT}
    assert not {node.op_type for node in model.graph.node} & {"BatchNormalization", "Dropout"}

    session = onnxruntime.InferenceSession(exported / MODEL_FILE, providers=["CPUExecutionProvider"])
    single = session.run(["image"], {"target_labels": scene.labels[np.newaxis]})[0]
    batch = np.stack([scene.labels, scene.targets["moved"], scene.labels])
    pictures = session.run(["image"], {"target_labels": batch})[0]
    assert pictures.shape == (3, 44, 60, 3)
    assert np.abs(pictures[0].astype(int) - single[0].astype(int)).max() <= 1
    assert not np.array_equal(pictures[0], pictures[1])


@pytest.fixture
def write_as(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], None]:
    """Replaces the slow exporting step: the exported graph, then what the test does to its file."""

    def replace(spoil: Callable[[Path], None]) -> None:
        def write_onnx(_graph: object, path: Path) -> None:
            shutil.copyfile(exported / MODEL_FILE, path)
            spoil(path)

        monkeypatch.setattr(bundle_module, "write_onnx", write_onnx)

    return replace


def brighten(path: Path) -> None:
    """Lift every pixel that a graph draws: the bias of its last convolution."""
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "generator.decoder.tail.1.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    onnx.save(model, path)


def test_an_export_beyond_tolerance_fails_and_leaves_nothing(
    run: RunFolder, tmp_path: Path, write_as: Callable[[Callable[[Path], None]], None]
) -> None:
    write_as(brighten)
    with pytest.raises(ParityError, match=r"differ from PyTorch's by more than 2 of 255: source by \d+"):
        export_run(run, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_keeps_the_bundle_that_was_there(
    run: RunFolder,
    exported: Path,
    small_disk: SmallDisk,
    write_as: Callable[[Callable[[Path], None]], None],
) -> None:
    write_as(lambda _: None)
    folder = shutil.copytree(exported, small_disk.path / "bundle")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    small_disk.leave((exported / MODEL_FILE).stat().st_size // 2)
    with pytest.raises(ExportError, match="No space left on device"):
        export_run(run, folder)
    small_disk.empty()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [*small_disk.path.iterdir()] == [folder]


def test_a_killed_export_is_invisible_and_the_next_one_clears_up(
    run: RunFolder, tmp_path: Path, write_as: Callable[[Callable[[Path], None]], None]
) -> None:
    def die(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    write_as(die)
    child = os.fork()
    if child == 0:
        export_run(run, tmp_path / "bundle")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob(".bundle.*.partial/*")] == [MODEL_FILE], "it was writing"
    assert not (tmp_path / "bundle").exists()

    write_as(lambda _: None)
    export_run(run, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_somebody_elses_folder_is_never_replaced(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ExportError, match="not a bundle"):
        export_run(run, tmp_path / "thesis")


def test_a_name_that_is_a_path_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot name a model"):
        export_run(run, tmp_path / "bundle", name="../evil")


def test_a_bundle_can_have_another_name(
    run: RunFolder, tmp_path: Path, write_as: Callable[[Callable[[Path], None]], None]
) -> None:
    write_as(lambda _: None)
    export_run(run, tmp_path / "bundle", name="another")
    content = json.loads((tmp_path / "bundle" / CARD_FILE).read_text())
    assert content["name"] == "another"
    assert set(content["versions"]) == {"semia", "torch", "onnx", "onnxruntime"}


def test_the_card_carries_the_runs_evaluation(
    run: RunFolder, tmp_path: Path, write_as: Callable[[Callable[[Path], None]], None]
) -> None:
    write_as(lambda _: None)
    copy = RunFolder.open(shutil.copytree(run.path, tmp_path / "run"))
    evaluation = Evaluation(
        name="run",
        generator_sha256=run.generator_sha256(),
        size=Canvas(44, 60),
        targets={"moved": Figures(align=0.75, swd=10.0, coherence=0.5, complete=0.5, sharp=0.25)},
        versions={},
        evaluated_at="2026-11-22T12:00:00+00:00",
    )
    evaluation.write(copy.path / EVALUATION_FILE)
    export_run(copy, tmp_path / "bundle")
    quality = ModelCard.read(tmp_path / "bundle" / CARD_FILE).quality
    assert quality is not None
    assert quality["align"] == 0.75

    dataclasses.replace(evaluation, generator_sha256="0" * 64).write(copy.path / EVALUATION_FILE)
    export_run(copy, tmp_path / "bundle")
    assert ModelCard.read(tmp_path / "bundle" / CARD_FILE).quality is None

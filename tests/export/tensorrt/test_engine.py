"""Building engines, held to the recorded interface of TensorRT 10 and 11; no engine was ever built for these tests."""

import contextlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from semia.cli import console
from semia.cli import export as exporting
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import CARD_FILE, MODEL_FILE, PLAN_FILE, ModelCard
from semia.export.errors import EngineError, ParityError, TensorRTMissingError
from semia.export.tensorrt import engine as engine_module
from semia.export.tensorrt.build import BatchProfile, build_plan, tensorrt_model, this_machine
from semia.export.tensorrt.engine import EngineRenderer, add_engine
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from tests.export.tensorrt import stand_in
from tests.export.tensorrt.stand_in import VERSIONS

CANVAS = Canvas(44, 60)


class Observer:
    """Remembers what it was told; may be interrupted at a step."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._interrupted_at = interrupted_at

    def start(self, phase: str, steps: int) -> None:
        self.told.append(("start", phase, steps))

    def step(self, phase: str, step: int) -> None:
        if step == self._interrupted_at:
            raise KeyboardInterrupt
        self.told.append(("step", phase, step))

    def finish(self, phase: str) -> None:
        self.told.append(("finish", phase))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A version of TensorRT on a machine with a GPU; its memory is this machine's."""
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in.tensorrt(request.param))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(cuda_stream=7, synchronize=lambda: None))
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(engine_module, "DEVICE", "cpu")
    return str(request.param)


@pytest.fixture
def bundle(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle to change; the cache folder is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(exported, tmp_path / "bundle")


@pytest.fixture
def targets(scene: Scene) -> dict[str, ClassIds]:
    return {"source": scene.labels, **scene.targets}


def test_an_engine_is_added_and_checked(version: str, bundle: Path, targets: dict[str, ClassIds]) -> None:
    observer = Observer()
    engine = add_engine(bundle, targets, observer, batches=BatchProfile(2, 4))
    card = ModelCard.read(bundle / CARD_FILE)
    assert card.engine == engine
    assert (engine.tensorrt, engine.gpu, engine.compute_capability) == (version, "NVIDIA H200", "9.0")
    assert (engine.precision, engine.opt_batch, engine.max_batch) == (card.precision, 2, 4)
    assert engine.plan_sha256 == sha256_of_file(bundle / PLAN_FILE)
    assert [entry.target for entry in engine.parity] == ["source", "moved", "batch of 4"]
    assert max(entry.max_abs for entry in engine.parity) <= 1
    assert observer.told[:2] == [("start", "Building", 1), ("start", "Timing", 2)]
    assert observer.told[-1] == ("finish", "Building")
    shapes = json.loads((bundle / PLAN_FILE).read_bytes().split(b"\0")[0])["shapes"]
    assert shapes == [[1, 44, 60], [2, 44, 60], [4, 44, 60]]
    (cache,) = (bundle.parent / "cache" / "semia").iterdir()
    assert cache.name == f"tensorrt-{version}-sm90.timing"
    assert cache.read_bytes() == b"timings"


def test_the_command_shows_how_it_goes(
    version: str, run: RunFolder, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
    monkeypatch.setattr(exporting, "export_run_folder", lambda *_: bundle)
    exporting.export(run.path, bundle, format_="tensorrt", batches="1:2")
    said = capsys.readouterr().out
    assert re.search(r"TensorRT: Timing 2/2, 0:0\d gone\n", said)  # how many seconds is the machine's affair
    assert "difference from ONNX Runtime" in said
    assert "batch of 2" in said
    assert f"built: TensorRT {version}, NVIDIA H200, fp32, batches up to 2" in said


def test_an_engine_that_draws_something_else_is_refused(
    version: str, bundle: Path, targets: dict[str, ClassIds], monkeypatch: pytest.MonkeyPatch
) -> None:
    render = EngineRenderer.render_batch

    def one_pixel_off(self: EngineRenderer, layouts: ClassIds) -> ClassIds:
        pictures = render(self, layouts)
        pictures[-1, 3, 4, 1] ^= 16
        return pictures

    monkeypatch.setattr(EngineRenderer, "render_batch", one_pixel_off)
    with pytest.raises(ParityError, match=r"differ from ONNX Runtime's by more than 2 of 255: source by 1[567]"):
        add_engine(bundle, targets, Observer())
    assert not (bundle / PLAN_FILE).exists()
    assert ModelCard.read(bundle / CARD_FILE).engine is None


def test_what_tensorrt_cannot_take_is_named(version: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """A graph that looks colors up in bytes."""
    with pytest.raises(EngineError, match=r"cannot take the graph: Gather of UINT8 'node_1': not supported"):
        build_plan(onnx.load(tiny_bundle / MODEL_FILE), CANVAS, BatchProfile(), tmp_path / "cache", Observer())


def test_a_failed_build_gives_tensorrts_reason(
    version: str, bundle: Path, targets: dict[str, ClassIds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in.Builder, "out_of_memory", True)
    with pytest.raises(EngineError, match=f"TensorRT {version} cannot build an engine: out of memory$"):
        add_engine(bundle, targets, Observer())
    assert sorted(path.name for path in bundle.iterdir()) == [MODEL_FILE, CARD_FILE]


def test_ctrl_c_ends_a_build(version: str, bundle: Path, targets: dict[str, ClassIds]) -> None:
    observer = Observer(interrupted_at=1)
    with pytest.raises(KeyboardInterrupt):
        add_engine(bundle, targets, observer)
    assert observer.told[-1] == ("step", "Timing", 0)
    assert not (bundle / PLAN_FILE).exists()


@pytest.mark.parametrize("stored", [b"broken", b"foreign", b"timings of before"])
def test_any_timing_cache_will_do(version: str, exported: Path, tmp_path: Path, stored: bytes) -> None:
    cache = tmp_path / "cache"
    cache.write_bytes(stored)
    build_plan(tensorrt_model(exported / MODEL_FILE), CANVAS, BatchProfile(), cache, Observer())
    assert cache.read_bytes() == b"timings"


def test_another_versions_engine_is_refused(version: str, bundle: Path, targets: dict[str, ClassIds]) -> None:
    add_engine(bundle, targets, Observer())
    plan = bundle / PLAN_FILE
    plan.write_bytes(plan.read_bytes().replace(version.encode(), b"9.0"))
    with pytest.raises(EngineError, match=r"cannot load .*model\.plan: the plan was made by another version"):
        EngineRenderer(plan)


def test_too_large_a_batch_is_refused(version: str, bundle: Path, targets: dict[str, ClassIds], scene: Scene) -> None:
    add_engine(bundle, targets, Observer(), batches=BatchProfile(1, 2))
    with pytest.raises(EngineError, match=r"takes no label maps of \(3, 44, 60\)"):
        EngineRenderer(bundle / PLAN_FILE).render_batch(np.stack([scene.labels] * 3))


def test_without_tensorrt_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        TensorRTMissingError, match=r"built on the machine that will run it: .*pip install tensorrt"
    ) as e:
        this_machine()
    assert e.value.exit_code == 2
    assert "\n" not in str(e.value)


def test_without_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in.tensorrt(VERSIONS[0]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TensorRTMissingError, match="PyTorch sees no CUDA GPU here"):
        this_machine()


@pytest.mark.parametrize("text", ["8", "1:2:3", "0:8", "8:4", "one:two"])
def test_batches_are_opt_and_max(text: str) -> None:
    assert BatchProfile.parse("2:16") == BatchProfile(2, 16)
    with pytest.raises(InputError, match="are not OPT:MAX"):
        BatchProfile.parse(text)

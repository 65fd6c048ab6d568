import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, MODEL_FILE, GeneratorKind, ModelCard, Precision, PrecisionCheck
from semia.export import exporter as bundle_module
from semia.export.checks import HIGHEST_PSNR, Speed, measure_speed, psnr
from semia.export.errors import NoPrecisionError, PrecisionError
from semia.export.exporter import export_run
from semia.export.graphs.published import SynthesisGraph
from semia.export.precision import request as precision_module
from semia.export.precision.request import PrecisionRequest, check_precision
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene

CHECK = PrecisionCheck(
    psnr={"source": 50.0, "moved": 41.5},
    min_psnr=40.0,
    speedup=1.5,
    faster_share=1.0,
    measured_on="this machine's CPU, 2 threads",
    meant_for="this machine",
)
FAST = (Speed(1.5, 1.0), "this machine's CPU, 2 threads")


@pytest.fixture(autouse=True)
def _fp32_is_exported_already(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting fp32 takes long and is tested elsewhere; lower precisions are exported for real."""
    monkeypatch.setattr(bundle_module, "write_onnx", lambda _graph, path: shutil.copyfile(exported / MODEL_FILE, path))


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """So tiny a graph has no speed to speak of: the pictures alone decide."""
    monkeypatch.setattr(precision_module, "measure_speed", lambda *_: FAST)


@pytest.fixture
def _once(monkeypatch: pytest.MonkeyPatch, write_once: Callable[[SynthesisGraph, Path, int], None]) -> None:
    """Each half-precision graph is exported once, for all tests that want the same."""
    monkeypatch.setattr(precision_module, "write_onnx", write_once)


@pytest.mark.usefixtures("_fast", "_once")
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_lower_precision_becomes_a_bundle(
    run: RunFolder, exported: Path, tmp_path: Path, precision: Precision
) -> None:
    told: list[PrecisionCheck] = []
    export_run(run, tmp_path / "bundle", precision=PrecisionRequest(precision, 30.0), on_precision=told.append)
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [MODEL_FILE, CARD_FILE]
    card = ModelCard.read(tmp_path / "bundle" / CARD_FILE)
    assert card.precision == precision
    assert card.opset == (22 if precision == "bf16" else 20)
    assert card.precision_check == told[0]
    assert set(told[0].psnr) == {"source", "mirrored", "moved"}
    assert 30.0 <= min(told[0].psnr.values()) < HIGHEST_PSNR
    assert (
        card.graph_sha256 == sha256_of_file(tmp_path / "bundle" / MODEL_FILE) != sha256_of_file(exported / MODEL_FILE)
    )


@pytest.mark.usefixtures("_fast")
def test_the_last_stage_stays_in_float32_where_eight_bits_are_too_few(run: RunFolder, tmp_path: Path) -> None:
    checks: list[PrecisionCheck] = []
    export_run(run, tmp_path / "all", precision=PrecisionRequest("int8", 25.0), on_precision=checks.append)
    reached = min(checks[0].psnr.values())
    limit = PrecisionRequest("int8", reached + 0.01)
    export_run(run, tmp_path / "spared", precision=limit, on_precision=checks.append)
    assert [check.last_stage_in_float32 for check in checks] == [False, True]
    assert min(checks[1].psnr.values()) > reached
    assert ModelCard.read(tmp_path / "spared" / CARD_FILE).precision_check == checks[1]


@pytest.mark.usefixtures("_fast", "_once")
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_an_impossible_limit_fails_and_leaves_nothing(run: RunFolder, tmp_path: Path, precision: Precision) -> None:
    with pytest.raises(PrecisionError, match=rf"its {precision} pictures are less than 98 dB from fp32's: source at"):
        export_run(run, tmp_path / "out" / "bundle", precision=PrecisionRequest(precision, 98.0))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("speed", "found"),
    [
        (None, "ONNX Runtime has no kernels for it"),
        (Speed(0.9, 0.1), "0.90x fp32's speed, faster in 10% of the turns"),
        (Speed(1.04, 1.0), "1.04x"),
        (Speed(1.5, 0.6), "1.50x fp32's speed, faster in 60% of the turns"),
    ],
)
def test_what_is_not_faster_is_for_another_machine_only(speed: Speed | None, found: str) -> None:
    slow = dataclasses.replace(
        CHECK,
        speedup=None if speed is None else speed.ratio,
        faster_share=None if speed is None else speed.faster_share,
    )
    with pytest.raises(PrecisionError, match=rf"fp16 is not faster than fp32 on this machine's CPU.*{found}.*another"):
        check_precision("fp16", slow)
    check_precision("fp16", dataclasses.replace(slow, meant_for="another machine"))
    check_precision("fp16", CHECK)


def test_no_purpose_excuses_bad_pictures() -> None:
    for bad in (39.9, float("nan")):
        check = dataclasses.replace(CHECK, psnr=CHECK.psnr | {"moved": bad}, meant_for="another machine")
        with pytest.raises(PrecisionError, match=r"less than 40 dB from fp32's: moved at (39\.9|nan)"):
            check_precision("fp16", check)


@pytest.mark.parametrize(
    ("request_", "generator", "message"),
    [
        (PrecisionRequest("fp16"), "copying", "the copying generator has no fp16 form"),
        (PrecisionRequest("int8", for_another_machine=True), "copying", "the copying generator has no int8 form"),
        (PrecisionRequest("fp32", 40.0), "published", "choose one of them with --precision"),
        (PrecisionRequest("fp32", for_another_machine=True), "copying", "choose one of them with --precision"),
    ],
)
def test_what_no_export_can_give_is_refused(request_: PrecisionRequest, generator: GeneratorKind, message: str) -> None:
    with pytest.raises(NoPrecisionError, match=message):
        request_.check(generator)


def test_psnr_counts_levels() -> None:
    picture = np.full((4, 4, 3), 100, dtype=np.uint8)
    assert psnr(picture + np.uint8(1), picture) == pytest.approx(48.13, abs=0.01)
    assert psnr(picture, picture) == HIGHEST_PSNR


def test_a_graph_is_timed_beside_another(exported: Path, scene: Scene) -> None:
    """Beside itself: no faster and no slower, as far as a busy machine can tell."""
    speed, place = measure_speed(exported / MODEL_FILE, exported / MODEL_FILE, scene.labels)
    assert speed is not None
    assert place.startswith("this machine's ")
    assert 0.2 < speed.ratio < 5.0
    assert 0.0 <= speed.faster_share <= 1.0

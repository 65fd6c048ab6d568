from pathlib import Path

import numpy as np
import pytest

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import MODEL_FILE, TargetParity
from semia.core.palette import Palette
from semia.export.checks import check_parity, measure_parity
from semia.export.errors import ExportError, ParityError
from semia.training.base import Renderer
from semia.training.run_folder import RunFolder


def test_the_difference_is_measured(tiny_bundle: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny bundle paints palette colors; a renderer that is 3 levels off in one pixel must be caught."""
    colors = Palette(((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    ids = np.zeros((48, 64), dtype=np.uint8)

    def paint(self: Renderer, target: ClassIds) -> RGB:
        picture = colors.render(target).copy()
        picture[5, 7, 1] = 3
        return picture

    monkeypatch.setattr(Renderer, "__call__", paint)
    render = run.load_generator().renderer()
    (entry,) = measure_parity(tiny_bundle / MODEL_FILE, render, {"flat": ids})
    assert (entry.target, entry.max_abs) == ("flat", 3)
    assert entry.mean_abs == pytest.approx(3 / ids.size / 3, abs=1e-6)


def test_a_graph_that_cannot_be_loaded_is_an_export_error(tmp_path: Path, run: RunFolder) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match="ONNX Runtime cannot load"):
        measure_parity(tmp_path / "model.onnx", run.load_generator().renderer(), {})


def test_the_tolerance_decides() -> None:
    parity = (TargetParity("a", 2, 0.1), TargetParity("b", 3, 0.1))
    check_parity(parity, 3)
    with pytest.raises(ParityError, match="more than 2 of 255: b by 3"):
        check_parity(parity, 2)

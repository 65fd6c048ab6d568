from pathlib import Path

import numpy as np
import pytest

from semia.core.model_card import MODEL_FILE
from semia.core.palette import Palette
from semia.export.errors import ExportError
from semia.export.session import OnnxRenderer


def test_a_graph_draws_a_layout(tiny_bundle: Path, tiny_palette: Palette) -> None:
    ids = np.zeros((48, 64), dtype=np.uint8)
    ids[:, 40:] = 2
    assert np.array_equal(OnnxRenderer(tiny_bundle / MODEL_FILE)(ids), tiny_palette.render(ids))


def test_what_it_cannot_draw_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot run .*model\.onnx: [^\n]+$"):
        OnnxRenderer(tiny_bundle / MODEL_FILE)(np.zeros((8, 8), dtype=np.uint8))
    (tmp_path / MODEL_FILE).write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"cannot load .*model\.onnx: [^\n]+$"):
        OnnxRenderer(tmp_path / MODEL_FILE)

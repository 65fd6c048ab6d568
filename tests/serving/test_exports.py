"""What the room offers, and what importing it costs."""

import subprocess
import sys
from pathlib import Path

from semia import serving
from semia.core.errors import SemiaError


def test_all_names_exist_and_are_sorted() -> None:
    assert serving.__all__ == sorted(serving.__all__)
    assert all(hasattr(serving, name) for name in serving.__all__)


def test_every_error_is_of_the_family() -> None:
    errors = [value for name, value in vars(serving).items() if name.endswith("Error")]
    assert len(errors) == 14
    assert all(issubclass(error, serving.ServingError) and issubclass(error, SemiaError) for error in errors)


def test_importing_brings_no_heavy_library() -> None:
    code = "import sys, semia.serving; print({'torch', 'onnx', 'onnxruntime', 'pytriton'} & set(sys.modules))"
    root = Path(serving.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"

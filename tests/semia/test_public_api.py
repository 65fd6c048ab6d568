"""What `import semia` offers: which names, at what cost, and how they are explained."""

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import semia
from semia.export.exporter import export

PROJECT = Path(__file__).parents[2]

FUNCTIONS = ["evaluate", "export", "publish", "render", "train"]
CLASSES = ["AsyncSynthesisClient", "SynthesisClient", "TritonServer"]
OPTIONS = ["RetryOptions", "ServerAccess", "ServerOptions", "ServerTls", "ServingSettings", "TlsOptions"]
ERRORS = [
    *("AccessRefusedError", "ClientError", "ExportError", "ImageError", "InputError", "LabelMapError"),
    *("SemiaError", "ServingError", "TrainingError"),
]

HEAVY = {"torch", "grpc", "tritonclient", "onnx", "onnxruntime", "PIL", "typer", "sklearn", "skimage", "ray"}
MAX_IMPORT_S = 0.15


def test_these_names_are_public() -> None:
    assert sorted(semia.__all__) == sorted(["__version__", *FUNCTIONS, *CLASSES, *OPTIONS, *ERRORS])
    assert set(semia.__all__) <= set(dir(semia))
    assert all(getattr(semia, name) is not None for name in semia.__all__)


def test_errors_are_one_family() -> None:
    assert all(issubclass(getattr(semia, name), semia.SemiaError) for name in ERRORS)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'semia' has no attribute 'trian'"):
        semia.trian  # noqa: B018


def test_export_is_a_function_whatever_was_imported() -> None:
    code = "import semia; it = semia.export; import semia.export.exporter; print(it is semia.export, callable(it))"
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout == "True True\n"


def test_importing_loads_nothing_heavy_and_takes_no_time() -> None:
    code = (
        "import sys, time; before = time.perf_counter(); import semia; took = time.perf_counter() - before; "
        f"print(*sorted({HEAVY} & set(sys.modules)), took)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    *loaded, _ = runs[0].split()
    assert loaded == []
    assert min(float(run.split()[-1]) for run in runs) < MAX_IMPORT_S


def test_a_scene_is_read_once_on_its_way_to_a_bundle(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("the run was made with the scene at hand")

    monkeypatch.setattr("semia.training.run_folder.load_scene", read_again)
    run = semia.train(scene_folder, tmp_path / "run")
    assert semia.export(run, tmp_path / "bundle").card.canvas == run.scene.canvas


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_docstrings_have_an_example(name: str) -> None:
    documented = export if name == "export" else getattr(semia, name)
    text = inspect.getdoc(documented) or ""
    example = re.search(r"Example::\n\n((?: {4}.*\n?|\n)+)", text)
    assert example is not None
    assert f"semia.{name}(" in example[1]
    lines = textwrap.indent(textwrap.dedent(example[1]), "    ")
    compile(f"async def example():\n{lines}", name, "exec")

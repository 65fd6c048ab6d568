"""What an installation contains, and under which names."""

import subprocess
import sys
import tomllib
from pathlib import Path

import semia

PROJECT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
ROOMS = {name: PROJECT / folder for name, folder in SETUPTOOLS["package-dir"].items()} | {"semia": PROJECT / "semia"}


def test_every_package_is_named_in_pyproject() -> None:
    there = {
        ".".join([name, *init.parent.relative_to(folder).parts])
        for name, folder in ROOMS.items()
        for init in folder.rglob("__init__.py")
    }
    assert sorted(there) == SETUPTOOLS["packages"]


def test_every_folder_of_modules_is_a_package() -> None:
    without = {
        path.parent.relative_to(PROJECT).as_posix()
        for folder in ROOMS.values()
        for path in folder.rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert without == {"serving/backends/onnxruntime"}, "what Triton imports, under no name of ours"


def test_rooms_are_found_in_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text("raise AssertionError\n")
    code = f"import sys; sys.path.insert(1, {str(PROJECT)!r}); import semia.client; print(semia.client.__file__)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == PROJECT / "client" / "__init__.py"


def test_types_are_announced() -> None:
    assert Path(semia.__file__).with_name("py.typed").is_file()

"""What is missing for the embedded Triton is said in one line, with the remedy."""

import os
import sys
from pathlib import Path

import pytest

from semia.serving.errors import TritonNotFoundError
from semia.serving.triton.embedded import (
    find_libpython,
    find_python,
    find_stub,
    find_wheel_folder,
    locate_embedded_triton,
)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_missing_wheel_names_what_to_install() -> None:
    with pytest.raises(TritonNotFoundError, match=r"pip install 'semia\[serving\]'"):
        find_wheel_folder("no-such-wheel-as-this")


def test_the_stub_is_the_one_of_the_version(tmp_path: Path) -> None:
    stub = touch(tmp_path / "3.11" / "triton_python_backend_stub")
    assert find_stub(tmp_path, "3.11") == stub


def test_a_missing_stub_names_the_versions_there_are(tmp_path: Path) -> None:
    for version in ("3.9", "3.12"):
        touch(tmp_path / version / "triton_python_backend_stub")
    with pytest.raises(TritonNotFoundError, match=r"does not know Python 3\.99: use one of 3\.9, 3\.12$"):
        find_stub(tmp_path, "3.99")


def test_libpython_is_the_first_that_is_found(tmp_path: Path) -> None:
    library = touch(tmp_path / "second" / "libpython3.11.so.1.0")
    touch(tmp_path / "third" / "libpython3.11.so.1.0")
    assert find_libpython([tmp_path / name for name in ("first", "second", "third")], "3.11") == library


def test_a_missing_libpython_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(TritonNotFoundError, match=r"needs libpython3\.11\.so\.1\.0.*apt-get install libpython3\.11,"):
        find_libpython([tmp_path], "3.11")


def test_an_interpreter_under_another_name_is_refused(tmp_path: Path) -> None:
    executable = touch(tmp_path / "python3.13")
    with pytest.raises(TritonNotFoundError, match="virtual environment"):
        find_python(executable)
    touch(tmp_path / "python3")
    with pytest.raises(TritonNotFoundError, match="virtual environment"):
        find_python(executable)


def test_an_environments_interpreter_keeps_its_environment(tmp_path: Path) -> None:
    touch(tmp_path / "python3").unlink()
    (tmp_path / "python3").symlink_to("python3.13")
    executable = touch(tmp_path / "python3.13")
    assert find_python(executable) == tmp_path / "python3"


def test_the_runtime_folder_is_complete(embedded_triton: None, tmp_path: Path) -> None:
    triton = locate_embedded_triton()
    command = triton.assemble(tmp_path, Path("/models"))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "backends/onnxruntime/model.py",
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_stub",
        "backends/python/triton_python_backend_utils.py",
        f"lib/{triton.libpython.name}",
    }
    assert not (tmp_path / "backends/python/libtriton_python.so").is_symlink(), "Triton refuses a link"
    assert command.program.is_file()
    assert "--model-repository=/models" in command.arguments
    assert command.environment["LD_LIBRARY_PATH"].split(os.pathsep)[0] == str(tmp_path / "lib")
    assert command.environment["MALLOC_ARENA_MAX"] == "1"
    assert command.environment["PATH"].split(os.pathsep)[0] == str(triton.python.parent)


def test_a_runtime_folder_that_a_shell_would_split_is_refused(embedded_triton: None, tmp_path: Path) -> None:
    with pytest.raises(TritonNotFoundError, match="set TMPDIR to a plain path"):
        locate_embedded_triton().assemble(tmp_path / "two words", tmp_path)


def test_the_operators_own_bound_on_heaps_stays(
    embedded_triton: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    command = locate_embedded_triton().assemble(tmp_path, tmp_path / "model_repository")
    assert command.environment["MALLOC_ARENA_MAX"] == "4"


def test_a_shell_without_a_path_gets_one(
    embedded_triton: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `env -i`: Triton's stub finds nothing there, and Triton waits for it."""
    monkeypatch.delenv("PATH")
    command = locate_embedded_triton().assemble(tmp_path, tmp_path)
    assert command.environment["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"


def test_a_temporary_folder_without_programs_is_named(
    embedded_triton: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = list(os.statvfs(tmp_path))
    mounted[8] |= os.ST_NOEXEC
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(mounted))
    with pytest.raises(TritonNotFoundError, match=r"where no program may run \(it is mounted noexec\): set TMPDIR"):
        locate_embedded_triton().assemble(tmp_path / "runtime", tmp_path)

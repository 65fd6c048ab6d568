"""Files and folders that are whole or absent, and the names models may have."""

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from semia.core.errors import DirectoryInUseError, InputError
from semia.core.files import check_model_name, model_name_from_path, sha256_of_file, staged_file, write_text
from semia.core.staging import held, keep, remove_abandoned, staged_directory, temporary_directory

Staged = Callable[[Path], AbstractContextManager[Path]]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def fail_inside(staged: Staged, destination: Path, error: type[BaseException]) -> None:
    with staged(destination) as staging:
        if staging.is_dir():
            staging /= "half"
        staging.write_text("half")
        raise error


def test_a_file_appears_whole(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "model.onnx"
    with staged_file(destination) as staging:
        assert staging.suffix == ".onnx"
        assert staging.parent == destination.parent
        staging.write_text("new")
        assert not destination.exists()
    assert destination.read_text() == "new"
    assert names(destination.parent) == ["model.onnx"]
    assert stat.S_IMODE(destination.stat().st_mode) == 0o644


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    destination = tmp_path / "card.json"
    write_text(destination, "old")
    with staged_file(destination) as staging:
        staging.write_text("new")
        assert destination.read_text() == "old"
    assert destination.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    destination = tmp_path / "card.json"
    write_text(destination, "old")
    with pytest.raises(error):
        fail_inside(staged_file, destination, error)
    assert destination.read_text() == "old"
    assert names(tmp_path) == ["card.json"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "bundle"
    with staged_directory(destination) as staging:
        assert staging.parent == destination.parent
        (staging / "sub").mkdir()
        (staging / "sub" / "file").write_text("new")
        assert not destination.exists()
    assert (destination / "sub" / "file").read_text() == "new"
    assert names(destination.parent) == ["bundle"]
    assert stat.S_IMODE(destination.stat().st_mode) == 0o755


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    for content in ("old", "new"):
        with staged_directory(destination) as staging:
            (staging / content).touch()
    assert names(destination) == ["new"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    destination = tmp_path / "bundle"
    for attempt in range(2):  # with no folder there, and with one
        before = names(tmp_path)
        with pytest.raises(error):
            fail_inside(staged_directory, destination, error)
        assert names(tmp_path) == before
        if attempt == 0:
            destination.mkdir()
            (destination / "old").touch()
    assert names(destination) == ["old"]


def test_a_refused_rename_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = tmp_path / "bundle"
    destination.mkdir()
    (destination / "old").touch()
    rename = Path.rename

    def refuse_the_new(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise PermissionError("the disk says no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(PermissionError), staged_directory(destination) as staging:
        (staging / "new").touch()
    assert names(destination) == ["old"]
    assert names(tmp_path) == ["bundle"]


def test_a_file_in_the_folders_place_stays(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    destination.write_text("a file")
    with pytest.raises(OSError, match="bundle"), staged_directory(destination):
        pass
    assert destination.read_text() == "a file"
    assert names(tmp_path) == ["bundle"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "disk" / "real"
    real.mkdir(parents=True)
    (real / "old").touch()
    link = tmp_path / "bundle"
    link.symlink_to(real, target_is_directory=True)
    with staged_directory(link) as staging:
        (staging / "new").touch()
    assert link.is_symlink()
    assert names(real) == ["new"]
    assert names(tmp_path) == ["bundle", "disk"]
    assert names(tmp_path / "disk") == ["real"]


def stage_in_another_process(destination: Path) -> "subprocess.Popen[str]":
    """Staging that never ends by itself, a file in it."""
    program = (
        "import sys, time; from pathlib import Path; from semia.core.staging import staged_directory\n"
        "with staged_directory(Path(sys.argv[1])) as staging:\n"
        "    (staging / 'half').touch(); print(staging.name, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(destination)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f".{destination.name}.")
    return process


def test_what_a_killed_process_staged_is_removed_and_what_a_living_one_stages_is_not(tmp_path: Path) -> None:
    destination, other = tmp_path / "bundle", tmp_path / "bundle.old"
    with (
        stage_in_another_process(destination) as killed,
        stage_in_another_process(destination) as living,
        stage_in_another_process(other) as of_another_name,
    ):
        for process in (killed, of_another_name):
            process.terminate()
            process.wait()
        (tmp_path / ".bundle.12345678.partial").touch()  # a file; nothing that was staged so
        assert len(names(tmp_path)) == 4
        with staged_directory(destination) as staging:
            left = names(tmp_path)
            assert staging.name in left
        assert len(left) == 4  # the living one's, the other bundle's, the file, and the new one
        assert sorted(names(tmp_path)) == sorted({*left, "bundle"} - {staging.name})
        living.terminate()
    with staged_directory(destination):
        pass
    with staged_directory(other):
        pass
    assert names(tmp_path) == [".bundle.12345678.partial", "bundle", "bundle.old"]


TEMPORARY = """
import os, tempfile, time
from semia.core.staging import temporary_directory
with temporary_directory("test") as directory:
    (directory / "half").touch(); print(directory.name, flush=True); time.sleep(60)
"""


def test_what_killed_processes_left_in_the_temporary_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", TEMPORARY]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        abandoned, in_use = killed.stdout.readline().strip(), living.stdout.readline().strip()
        killed.kill()
        killed.wait()
        (tmp_path / "semia-test-strangers").mkdir()
        assert remove_abandoned(tmp_path, "semia-other-") == []
        with temporary_directory("test") as directory:
            assert names(tmp_path) == sorted([in_use, directory.name, "semia-test-strangers"])
            (directory / "folder").mkdir()
            (directory / "log").write_text("why")
            keep(directory, directory / "log")
        living.kill()
    assert remove_abandoned(tmp_path, "semia-test-") == [in_use]
    assert abandoned != in_use
    assert (directory / "log").read_text() == "why", "what is kept is there for a week"
    assert not (directory / "folder").exists()
    week_ago = time.time() - 7 * 24 * 3600 - 60
    os.utime(directory / ".kept", (week_ago, week_ago))
    assert remove_abandoned(tmp_path, "semia-test-") == [directory.name]


HOLDER = """
import sys, time
from pathlib import Path
from semia.core.staging import held
with held(Path(sys.argv[1])):
    print("held", flush=True); time.sleep(60)
"""


def test_a_directory_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "pagoda"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (tmp_path / "link").symlink_to(tmp_path / "runs")
        with (
            pytest.raises(DirectoryInUseError, match=f"pagoda is in use by process {other.pid} on .*: let it finish"),
            held(tmp_path / "link" / "pagoda"),
        ):
            raise AssertionError
        other.kill()
    with held(run), held(tmp_path / "runs" / "another"):
        assert names(tmp_path / "runs") == [".another.lock", ".pagoda.lock"]
    assert names(tmp_path / "runs") == []


@pytest.mark.parametrize("staged", [staged_file, staged_directory])
@pytest.mark.parametrize("name", ["with space", "ünïcode", ".hidden", "many.dots.in.it", "-dash"])
def test_odd_names_are_kept(tmp_path: Path, staged: Staged, name: str) -> None:
    with staged(tmp_path / name):
        pass
    assert names(tmp_path) == [name]


def test_hashes_are_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_of_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.parametrize("name", ["a", "0", "zebra", "my-scene_2", "a" * 64])
def test_model_names(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "a.b", "a/b", "..", "../a", "a b", "a\n", "é", "a" * 65, "a\0", "\u0661"]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a model"):
        check_model_name(name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("scenes/My Scene", "my-scene"),
        ("runs/building_2", "building_2"),
        ("Zürich (2).png", "z-rich-2-png"),
        ("__init__", "init"),
        ("x" * 100, "x" * 64),
        ("a/..//zebra/", "zebra"),
    ],
)
def test_model_names_from_paths(tmp_path: Path, path: str, name: str) -> None:
    assert model_name_from_path(tmp_path / path) == name


@pytest.mark.parametrize("path", ["/", "日本", "---"])
def test_paths_that_make_no_name(path: str) -> None:
    with pytest.raises(InputError, match="--name"):
        model_name_from_path(Path("/") / path)

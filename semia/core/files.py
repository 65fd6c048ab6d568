"""Files that are either whole or absent: staging beside the destination, then one rename (directories: `staging`)."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from semia.core import RUNS_FOLDER
from semia.core.errors import InputError, SemiaError

UNFINISHED = ".*.partial*"  # what `staged_file` calls its files, as a glob pattern
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_model_name(name: str) -> str:
    """Return ``name`` if it is a served model's name (``[a-z0-9][a-z0-9_-]*``, at most 64 characters).

    Raises:
        InputError: for anything else, so that no user-given name becomes a path unchecked.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a model: use lower-case letters, digits, '-' and '_', "
            "starting with a letter or digit, at most 64 characters"
        )
    return name


def model_name_from_path(path: Path) -> str:
    """A valid model name made from a file or folder name ("My Scene" becomes "my-scene").

    Raises:
        InputError: if no letter or digit is left to make a name of.
    """
    name = re.sub(r"[^a-z0-9_]+", "-", path.resolve().name.lower()).strip("-_")[:64]
    if not name:
        raise InputError(f"cannot make a model name from {str(path)!r}: pass one with --name")
    return check_model_name(name)


def default_run(scene: Path, name: str | None = None, *, runs: Path = RUNS_FOLDER) -> Path:
    """The run folder of a scene's generator, named as the model will be.

    Raises:
        InputError: if ``name``, or without it the scene folder's, cannot name a model.
    """
    return runs / (model_name_from_path(scene) if name is None else check_model_name(name))


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_path(path: Path) -> None:
    """Flush a file or a directory entry to the disk, so that a rename never outruns its data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged_file(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``destination``; on success it is renamed onto it, on failure removed.

    The temporary name keeps the destination's suffix, for writers that choose a format by it.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{destination.stem}.", suffix=f".partial{destination.suffix}", dir=destination.parent
    )
    os.close(descriptor)
    staging = Path(name)
    try:
        yield staging
        staging.chmod(0o644)  # mkstemp makes the file private; published files are for other users too
        sync_path(staging)
        staging.replace(destination)
        sync_path(destination.parent)
    finally:
        staging.unlink(missing_ok=True)


def write_bytes(destination: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with staged_file(destination) as staging:
        staging.write_bytes(content)


def write_text(destination: Path, content: str) -> None:
    """Write a whole UTF-8 file or nothing."""
    write_bytes(destination, content.encode("utf-8"))


def write_result(destination: Path, content: str) -> None:
    """Write what a person asked for, as `write_text` does.

    Raises:
        SemiaError: if the disk refuses.
    """
    try:
        write_text(destination, content)
    except OSError as error:
        raise SemiaError(f"cannot write {destination}: {error}") from error

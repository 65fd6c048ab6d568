"""Directories that are either whole or absent: staging beside the destination, then one rename."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from semia.core.files import sync_path


@contextlib.contextmanager
def staged_directory(destination: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``destination``; on success it takes that name, on failure it is removed.

    ``destination`` must not exist, or be a directory, which is then replaced. A reader sees the old
    directory, for an instant none, then the new one whole; never a half-written one. What a process that was
    killed had staged for the same destination is removed first.
    """
    destination = destination.resolve()  # a link to a directory stays; what it points to is replaced
    destination.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(destination)
    staging, lock = _make_staging(destination)
    replaced = staging.with_suffix(".replaced")
    try:
        yield staging
        staging.chmod(0o755)
        for path in [*staging.rglob("*"), staging]:
            sync_path(path)
        if destination.is_dir():
            destination.rename(replaced)
        try:
            staging.rename(destination)
        except OSError:
            if replaced.exists():
                replaced.rename(destination)
            raise
        sync_path(destination.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
        os.close(lock)


def _make_staging(destination: Path) -> tuple[Path, int]:
    """A directory beside ``destination``, and a descriptor by which it is locked while this process lives."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(staging, os.O_RDONLY)
            # Some network file systems lock no directories; there, none can be found abandoned either.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if staging.exists():
                return staging, lock
            os.close(lock)
        # Another process came between making and locking it, and removed it as abandoned.


def _remove_abandoned(destination: Path) -> None:
    """Remove what `_make_staging` made for a destination in processes that are no more: nobody holds its lock."""
    name = re.compile(re.escape(f".{destination.name}.") + r"[a-z0-9_]{8}\.partial")
    for path in destination.parent.iterdir():
        if not name.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # one in use, a file of that name, another user's, or one just gone
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(lock)

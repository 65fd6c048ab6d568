"""Directories that are whole or absent, held by one process, or temporary; killed processes leave none behind.

All three rest on locks (``flock``), which the system lets go of when a process dies, however it dies.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from semia.core.errors import DirectoryInUseError
from semia.core.files import sync_path

KEPT = ".kept"  # a file that marks a temporary directory as one to be kept
KEPT_DAYS = 7  # for so long; a server that fails again and again must not fill the disk with its logs


@contextlib.contextmanager
def staged_directory(destination: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``destination``; on success it takes that name, on failure it is removed.

    ``destination`` must not exist, or be a directory, which is then replaced. A reader sees the old
    directory, for an instant none, then the new one whole; never a half-written one. What a process that was
    killed had staged for the same destination is removed first.
    """
    destination = destination.resolve()  # a link to a directory stays; what it points to is replaced
    destination.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{destination.name}."
    remove_abandoned(destination.parent, prefix, ".partial")
    staging, lock = _make_locked(destination.parent, prefix, ".partial")
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


def temporary_directory(kind: str) -> contextlib.AbstractContextManager[Path]:
    """An empty directory ``semia-KIND-*`` in the system's temporary one; afterwards it is removed.

    What processes that were killed left of this kind is removed first. `keep` spares it from both for a week.
    """
    return private_directory(Path(tempfile.gettempdir()), f"semia-{kind}-")


@contextlib.contextmanager
def private_directory(place: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Yield an empty directory as `temporary_directory` does, in another place and under another name."""
    remove_abandoned(place, prefix, suffix)
    directory, lock = _make_locked(place, prefix, suffix)
    try:
        yield directory
    finally:
        if not (directory / KEPT).exists():
            shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def keep(directory: Path, file: Path) -> None:
    """Leave of a temporary directory one file, for people to read."""
    (directory / KEPT).touch()
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in (file, directory / KEPT):
            path.unlink(missing_ok=True)


def remove_abandoned(place: Path, prefix: str, suffix: str = "") -> list[str]:
    """Remove directories that `_make_locked` made in processes that have ended: their locks are free.

    Returns their names.
    """
    pattern = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}" + re.escape(suffix))
    removed = []
    for path in place.iterdir():
        if not pattern.fullmatch(path.name) or _is_kept(path):
            continue
        with contextlib.suppress(OSError):  # one in use, a file of that name, another user's, or one just gone
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
                removed.append(path.name)
            finally:
                os.close(lock)
    return removed


def _is_kept(directory: Path) -> bool:
    try:
        kept_at = (directory / KEPT).stat().st_mtime
    except OSError:
        return False
    return time.time() - kept_at < KEPT_DAYS * 24 * 3600


def _make_locked(place: Path, prefix: str, suffix: str = "") -> tuple[Path, int]:
    """An empty directory, and a descriptor by which it is locked while this process lives."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=place))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY)
            # Some network file systems lock no directories; there, none can be found abandoned either.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if directory.exists():
                return directory, lock
            os.close(lock)
        # Another process came between making and locking it, and removed it as abandoned.


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a directory, which need not exist, against other processes that would, by a lock file beside it.

    Where no such file can be written, or the disk keeps no locks, this does nothing.

    Raises:
        DirectoryInUseError: if another process holds it; it says which.
    """
    directory = directory.resolve()
    file = directory.with_name(f".{directory.name}.lock")
    lock = _lock(directory, file)
    try:
        yield
    finally:
        if lock is not None:
            file.unlink(missing_ok=True)
            lock.close()


def _lock(directory: Path, file: Path) -> BinaryIO | None:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_file(file, wait=False)
            if lock is not None:
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
                lock.flush()
                return lock
        except BlockingIOError:
            with contextlib.suppress(FileNotFoundError):  # its holder has just ended
                holder = file.read_text(encoding="utf-8", errors="replace") or "another process"
                what = f"{directory} is in use by {holder}: let it finish, or choose another"
                raise DirectoryInUseError(what) from None
        except OSError:
            return None


def lock_file(file: Path, *, wait: bool = True) -> BinaryIO | None:
    """Open a file, made if need be, and lock it until it is closed; None if its holder removed it meanwhile.

    Raises:
        BlockingIOError: if another process holds it, and is not waited for.
        OSError: if the disk refuses.
    """
    with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
        lock = stack.enter_context(file.open("a+b"))  # writable: network file systems insist on it
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
            stack.pop_all()
            return lock
    return None

"""Changing a model repository so that the change is whole or undone, whatever interrupts it.

A writer holds the repository's lock, builds in a staging folder on the same disk, and renames. Where
a change takes more than one rename, or a server has to prove it first, a journal says how to undo it: a writer that
fails undoes it itself, and for one that was killed, the next writer does.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from semia.core.errors import InputError
from semia.core.files import check_model_name, sync_path
from semia.core.staging import lock_file, private_directory
from semia.serving.errors import RepositoryError

CONFIG_FILE = "config.pbtxt"
LOCK_FILE = ".publish.lock"
JOURNAL_FILE = ".publish.json"


@dataclass(frozen=True)
class UnfinishedVersion:
    """A version that is being published, and what was there before it: the journal's content."""

    model: str
    version: int
    new_model: bool  # whether the model's folder came with the version
    previous_config: str | None  # content of config.pbtxt, None where there was none


@contextlib.contextmanager
def locked(repository: Path) -> Iterator[UnfinishedVersion | None]:
    """Hold the repository, made if need be, against other writers; the system lets go when the process dies.

    What a killed writer left unfinished is taken back first, and is what this yields. A repository that was made for a
    model which was then refused goes again, its lock with it.
    """
    file = repository / LOCK_FILE
    lock = None
    while lock is None:
        made = not repository.exists()
        with contextlib.suppress(FileExistsError):
            repository.mkdir(parents=True)
        lock = lock_file(file)
    with lock:
        try:
            yield undo_unfinished(repository)
        finally:
            if made and [*repository.iterdir()] == [file]:
                file.unlink()
                with contextlib.suppress(OSError):  # from here on, another publisher may be in it
                    repository.rmdir()


def is_being_changed(repository: Path) -> bool:
    """Whether a writer holds the repository's lock now."""
    try:
        with (repository / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def recover(repository: Path) -> UnfinishedVersion | None:
    """Take back the version that a killed writer left unfinished, if there is one; a living writer's is let be.

    Raises:
        RepositoryError: if the journal is not ours.
        OSError: if the repository cannot be written.
    """
    if unfinished_version(repository) is None or is_being_changed(repository):
        return None
    with locked(repository) as taken_back:
        return taken_back


def staging_folder(repository: Path) -> contextlib.AbstractContextManager[Path]:
    """A private folder on the repository's disk; those that killed writers left behind are removed first.

    Whatever is in it at the end is deleted: renaming a folder into it takes it out of the repository at once. It lies
    beside the repository, for Triton takes any folder in that, hidden or not, for a model; inside only where it must:
    if the repository is a mounted disk, or its parent is not ours to write.
    """
    beside = repository.parent
    same_disk = beside.stat().st_dev == repository.stat().st_dev
    place = beside if same_disk and os.access(beside, os.W_OK) else repository
    return private_directory(place, f".{repository.name}.publish-", ".partial")


def unfinished_version(repository: Path) -> UnfinishedVersion | None:
    """The version that is being published, or whose publisher was killed; None where there is none.

    Raises:
        RepositoryError: if the journal is not ours.
    """
    journal = repository / JOURNAL_FILE
    try:
        unfinished = UnfinishedVersion(**json.loads(journal.read_text(encoding="utf-8")))
        check_model_name(unfinished.model)
    except FileNotFoundError:
        return None
    except (InputError, ValueError, TypeError) as error:
        raise RepositoryError(f"{journal} is no journal of ours: look at it, then delete it ({error})") from error
    return unfinished


def begin(repository: Path, staging: Path, unfinished: UnfinishedVersion) -> None:
    """Note what is about to be done; from here on to `finish`, it can be taken back."""
    _write(repository / JOURNAL_FILE, json.dumps(asdict(unfinished)), staging)


def finish(repository: Path) -> None:
    """The version is good: strike it from the journal."""
    (repository / JOURNAL_FILE).unlink()
    sync_path(repository)


@contextlib.contextmanager
def undone_on_failure(repository: Path) -> Iterator[None]:
    """Undo what was begun if the ``with`` block fails or is interrupted."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the next writer tries again
            undo_unfinished(repository)
        raise


def undo_unfinished(repository: Path) -> UnfinishedVersion | None:
    """Make the repository what it was before its unfinished version, and return that; the lock must be held."""
    unfinished = unfinished_version(repository)
    if unfinished is None:
        return None
    model = repository / unfinished.model
    gone = model if unfinished.new_model else model / str(unfinished.version)
    with staging_folder(repository) as staging:
        if gone.exists():
            gone.rename(staging / gone.name)
            shutil.rmtree(staging / gone.name)  # now, for the configuration may need its room on the disk
        if model.exists():
            if unfinished.previous_config is None:
                (model / CONFIG_FILE).unlink(missing_ok=True)
            else:
                _write(model / CONFIG_FILE, unfinished.previous_config, staging)
            sync_path(model)
        finish(repository)
    return unfinished


def _write(file: Path, content: str, staging: Path) -> None:
    staged = staging / f"{file.name}.new"
    staged.write_text(content, encoding="utf-8")
    sync_path(staged)
    staged.replace(file)
    sync_path(file.parent)

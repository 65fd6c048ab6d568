"""The model repository: publishing a bundle as the next version of a model, and listing what is there.

A repository is Triton's own layout and nothing else::

    repository/NAME/config.pbtxt
    repository/NAME/VERSION/model.onnx    (or model.plan, a TensorRT engine)
    repository/NAME/VERSION/model_card.json

Hidden names are not models: one hidden file is the lock of the publishers.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.errors import InputError
from semia.files import check_model_name, sha256_of_file, sync_path
from semia.model_card import CARD_FILE, MODEL_FILE, ModelCard
from serving.accelerators import served_file
from serving.errors import BundleError, PublishError, RepositoryError
from serving.model_config import CARD_HASH_PARAMETER, DEFAULT_SETTINGS, ServingSettings, config_text

CONFIG_FILE = "config.pbtxt"
LOCK_FILE = ".publish.lock"

VERSION_NAME = re.compile(r"[1-9][0-9]*")
"""Triton ignores version folders that are not numbers or start with 0."""


@dataclass(frozen=True)
class PublishedModel:
    """Where a bundle went."""

    name: str  # the served model's name
    version: int  # counted from 1
    folder: Path  # repository/NAME/VERSION


@dataclass(frozen=True)
class RepositoryModel:
    """One model folder of a repository."""

    name: str  # the folder's name, by which Triton serves it
    versions: tuple[int, ...]  # oldest first
    card: ModelCard | None  # of the newest version; None where the folder is broken
    problem: str | None  # one line saying what is broken, or None


def publish(
    bundle: Path, repository: Path, *, name: str | None = None, settings: ServingSettings = DEFAULT_SETTINGS
) -> PublishedModel:
    """Add a bundle to a repository (made if need be) as a new model or the next version of one.

    The version is staged whole, then renamed into place, and config.pbtxt is replaced last. A process killed
    between these two renames leaves the new version under the old configuration: `list_models` reports it,
    and publishing again mends it. Publishers of one repository wait for each other.

    Args:
        bundle: folder of ``model.onnx`` and ``model_card.json``, and of ``model.plan`` where there is an engine.
        repository: the model repository.
        name: what to call the served model; None: as its card does.
        settings: how the model is run.

    Raises:
        BundleError: if the bundle lacks a file or its graph is not the one its card describes.
        InputError: if ``name`` cannot name a model, or the bundle's engine cannot be served as told.
        PublishError: if the disk refuses; the repository is then as it was.
    """
    card = _read_bundle_card(bundle)
    card = dataclasses.replace(card, name=check_model_name(name or card.name))
    try:
        repository = repository.resolve()  # a link's target has its neighbours on its own disk
        with _locked(repository), _staging_folder(repository) as staging:
            return _publish_staged(_stage(bundle, card, settings, staging), card.name, repository)
    except OSError as error:
        raise PublishError(f"cannot publish {card.name!r} to {repository}: {error}") from error


def list_models(repository: Path) -> list[RepositoryModel]:
    """The models of a repository by name; a broken one is listed with its problem.

    Raises:
        RepositoryError: if there is no such folder.
    """
    if not repository.is_dir():
        raise RepositoryError(f"no such model repository: {repository}")
    return [_read_model(folder) for folder in sorted(_model_folders(repository))]


def newest_versions(repository: Path) -> dict[str, int]:
    """The newest version of every model that has any, sorted by name; no file is opened."""
    folders = sorted(_model_folders(repository))
    return {folder.name: versions[-1] for folder in folders if (versions := _versions(folder))}


def _model_folders(repository: Path) -> Iterator[Path]:
    return (path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_bundle_card(bundle: Path) -> ModelCard:
    if not (bundle / MODEL_FILE).is_file():
        raise BundleError(f"{bundle} is not a bundle: it has no {MODEL_FILE}")
    try:
        return ModelCard.read(bundle / CARD_FILE)
    except InputError as error:
        raise BundleError(f"{bundle} is not a bundle: {error}") from error


@contextlib.contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """Hold the repository, made if need be, against other publishers; the system lets go when the process dies.

    A repository that was made for a model which was then refused goes again, its lock with it.
    """
    file = repository / LOCK_FILE
    lock = None
    while lock is None:
        made = not repository.exists()
        with contextlib.suppress(FileExistsError):
            repository.mkdir(parents=True)
        lock = _lock(file)
    with lock:
        try:
            yield
        finally:
            if made and [*repository.iterdir()] == [file]:
                file.unlink()
                with contextlib.suppress(OSError):  # from here on, another publisher may be in it
                    repository.rmdir()


def _lock(file: Path) -> BinaryIO | None:
    """Wait for a lock; None if whoever had it took it away with the repository."""
    with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
        lock = stack.enter_context(file.open("ab"))  # writable: network file systems insist on it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
            stack.pop_all()
            return lock
    return None


@contextlib.contextmanager
def _staging_folder(repository: Path) -> Iterator[Path]:
    """A private folder on the repository's disk; those that killed publishers left behind are removed first."""
    place = _staging_place(repository)
    prefix, suffix = f".{repository.name}.publish-", ".partial"
    for stale in place.glob(f"{prefix}*{suffix}"):
        shutil.rmtree(stale, ignore_errors=True)  # whoever holds the lock is the only living publisher
    staging = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=place))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging_place(repository: Path) -> Path:
    """Beside the repository, for Triton takes any folder in it, hidden or not, for a model.

    Inside only where it must be: if the repository is a mounted disk, or its parent is not ours to write.
    """
    beside = repository.parent
    same_disk = beside.stat().st_dev == repository.stat().st_dev
    return beside if same_disk and os.access(beside, os.W_OK) else repository


def _stage(bundle: Path, card: ModelCard, settings: ServingSettings, staging: Path) -> Path:
    """Lay the model out as a new model folder of version 1, on the disk to the last byte."""
    model = staging / card.name
    version = model / "1"
    version.mkdir(parents=True)
    served = served_file(card, settings.accelerator)
    if not (bundle / served).is_file():
        raise BundleError(f"{bundle} is not whole: it has no {served}, which its card describes")
    for file in (served, CARD_FILE):
        shutil.copyfile(bundle / file, version / file)
    # The copy is what will be served, so the copy is what must match.
    sha256 = sha256_of_file(version / served)
    expected = card.graph_sha256 if card.engine is None or served == MODEL_FILE else card.engine.plan_sha256
    if sha256 != expected:
        raise BundleError(
            f"{bundle / served} is not the {'graph' if served == MODEL_FILE else 'engine'} its card describes "
            f"(SHA-256 {sha256[:12]}..., the card says {expected[:12]}...): export it again"
        )
    (model / CONFIG_FILE).write_text(config_text(card, sha256_of_file(version / CARD_FILE), settings), encoding="utf-8")
    for path in [*model.rglob("*"), model]:
        sync_path(path)
    return model


def _publish_staged(staged: Path, name: str, repository: Path) -> PublishedModel:
    model = repository / name
    if not model.exists():
        staged.rename(model)
        sync_path(repository)
        return PublishedModel(name, 1, model / "1")
    number = max(_versions(model), default=0) + 1
    version = model / str(number)
    (staged / "1").rename(version)
    try:
        (staged / CONFIG_FILE).replace(model / CONFIG_FILE)
    except OSError:
        shutil.rmtree(version, ignore_errors=True)
        raise
    sync_path(model)
    return PublishedModel(name, number, version)


def _versions(model: Path) -> tuple[int, ...]:
    """The versions Triton sees in a model's folder, oldest first."""
    folders = (path for path in model.iterdir() if path.is_dir() and VERSION_NAME.fullmatch(path.name))
    return tuple(sorted(int(path.name) for path in folders))


def _read_model(folder: Path) -> RepositoryModel:
    versions = _versions(folder)
    card, problem = None, None
    try:
        card = _read_newest_card(folder, versions)
    except (InputError, OSError, ValueError, text_format.ParseError) as error:
        problem = str(error)
    return RepositoryModel(folder.name, versions, card, problem)


def _read_newest_card(folder: Path, versions: tuple[int, ...]) -> ModelCard:
    if not versions:
        raise RepositoryError(f"{folder} has no version")
    newest = folder / str(versions[-1])
    card = ModelCard.read(newest / CARD_FILE)
    config = text_format.Parse(
        (folder / CONFIG_FILE).read_text(encoding="utf-8"), pb.ModelConfig(), allow_unknown_field=True
    )
    served = config.default_model_filename or MODEL_FILE
    if not (newest / served).is_file():
        raise RepositoryError(f"{newest} has no {served}")
    if config.parameters[CARD_HASH_PARAMETER].string_value != sha256_of_file(newest / CARD_FILE):
        raise RepositoryError(f"{folder / CONFIG_FILE} does not belong to version {versions[-1]}: publish it again")
    return card

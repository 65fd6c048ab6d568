"""The model repository: what is where, and how a version gets there.

A repository is Triton's own layout and nothing else::

    repository/NAME/config.pbtxt
    repository/NAME/VERSION/model.onnx    (or model.plan, a TensorRT engine)
    repository/NAME/VERSION/model_card.json

Hidden names are not models: they are the lock and the journal of `semia.serving.repository.transaction`.
"""

import dataclasses
import json
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.errors import InputError
from semia.core.files import check_model_name, sha256_of_file, sync_path
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard, changed_classes, hash_problem
from semia.core.palette import Palette
from semia.serving.errors import BundleError, ClassesChangedError, PublishError, RepositoryError
from semia.serving.model_config import (
    CARD_HASH_PARAMETER,
    DEFAULT_SETTINGS,
    ServingSettings,
    config_text,
    parse_config,
    served_file,
    settings_from_config,
)
from semia.serving.repository.transaction import CONFIG_FILE, UnfinishedVersion, begin

logger = logging.getLogger(__name__)

VERSION_NAME = re.compile(r"[1-9][0-9]*")  # Triton ignores version folders that are not numbers or start with 0

ORDER_CLASSES = "order classes as before in the scene's classes.json, or publish with --change-classes"
"""What to do about class ids that would mean other classes."""


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


def present_settings(repository: Path, name: str) -> ServingSettings:
    """How the newest version of a model is run.

    The defaults for a model that is not there, and, with a warning in the log, if its config.pbtxt is not ours.

    Raises:
        PublishError: if that cannot be read.
    """
    return settings_or_defaults(present_config(repository, name), str(repository / name / CONFIG_FILE))


def present_config(repository: Path, name: str) -> str:
    """The config.pbtxt of a model's newest version, empty if there is none; a PublishError if it is unreadable."""
    try:
        return (repository / name / CONFIG_FILE).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise PublishError(f"cannot publish {name!r} to be run as it is: {error}") from error


def check_classes(config: str, card: ModelCard, advice: str = ORDER_CLASSES) -> None:
    """Make sure that class ids mean in a new version what they mean in the one that a config.pbtxt describes.

    Raises:
        ClassesChangedError: if they do not; its message ends with ``advice``.
    """
    try:
        parameters = parse_config(config).parameters
        codes, names = (json.loads(parameters[key].string_value) for key in ("palette", "class_names"))
        before = Palette.from_hex(codes, names)
    except (text_format.ParseError, ValueError, TypeError, AttributeError, InputError):
        return  # there is none, or it is not ours
    if changes := changed_classes(before, card.to_palette()):
        more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ClassesChangedError(
            f"class ids of {card.name!r} would change their meaning: {changes[0]}{more}; whoever sends ids would get "
            f"other pictures: {advice}"
        )


def settings_or_defaults(config: str, place: str) -> ServingSettings:
    """How the model of a config.pbtxt is run: by default if there is no text, or, as the log warns, one not of ours."""
    try:
        return settings_from_config(config) if config else DEFAULT_SETTINGS
    except InputError as error:
        logger.warning("%s says nothing of how the model is to be run, so the defaults hold: %s", place, error)
        return DEFAULT_SETTINGS


def list_models(repository: Path) -> list[RepositoryModel]:
    """The models of a repository by name; a broken one is listed with its problem.

    Raises:
        RepositoryError: if there is no such folder, or it is something else.
    """
    check_is_repository(repository)
    return [_read_model(folder) for folder in sorted(_model_folders(repository))]


def check_is_repository(repository: Path, *, may_be_missing: bool = False) -> None:
    """Make sure that a folder is a model repository, which may be empty.

    Raises:
        RepositoryError: if there is none, or it is a bundle, a version or a model.
    """
    if not repository.is_dir() and not may_be_missing:
        raise RepositoryError(f"no such model repository: {repository}")
    for file, kind in ((CARD_FILE, "bundle"), (CONFIG_FILE, "model")):
        if (repository / file).is_file():
            raise RepositoryError(f"{repository} is a {kind}, not a model repository, which is a folder of models")


def newest_versions(repository: Path) -> dict[str, int]:
    """The newest version of every model that has any, sorted by name; no file is opened."""
    folders = sorted(_model_folders(repository))
    return {folder.name: versions[-1] for folder in folders if (versions := versions_of(folder))}


def _model_folders(repository: Path) -> Iterator[Path]:
    return (path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_bundle_card(bundle: Path, name: str | None = None) -> ModelCard:
    """The card of a bundle, under the name by which it is to be served; None: the card's own.

    Raises:
        BundleError: if the bundle lacks its graph or its card.
        InputError: if ``name`` cannot name a model.
    """
    if not (bundle / MODEL_FILE).is_file():
        raise BundleError(f"{bundle} is not a bundle: it has no {MODEL_FILE}")
    try:
        card = ModelCard.read(bundle / CARD_FILE)
    except InputError as error:
        raise BundleError(f"{bundle} is not a bundle: {error}") from error
    return dataclasses.replace(card, name=check_model_name(name or card.name))


def stage_bundle(bundle: Path, card: ModelCard, settings: ServingSettings, staging: Path) -> Path:
    """Lay a bundle out as a new model folder of version 1, on the disk to the last byte; returns the folder.

    Raises:
        BundleError: if the bundle lacks the file that is to be served, or that is not the one its card describes.
    """
    model = staging / card.name
    version = model / "1"
    version.mkdir(parents=True)
    served = served_file(card, settings.accelerator)
    if not (bundle / served).is_file():
        raise BundleError(f"{bundle} is not whole: it has no {served}, which its card describes")
    for file in (served, CARD_FILE):
        shutil.copyfile(bundle / file, version / file)
    # The copy is what will be served, so the copy is what must match.
    if problem := hash_problem(version / served, card):
        raise BundleError(f"{bundle / served} {problem}: export it again")
    stage_config(model, card, settings)
    return model


def stage_config(model: Path, card: ModelCard, settings: ServingSettings) -> None:
    """Write the configuration of a staged model, and have all of it on the disk."""
    text = config_text(card, sha256_of_file(model / "1" / CARD_FILE), settings)
    (model / CONFIG_FILE).write_text(text, encoding="utf-8")
    for path in [*model.rglob("*"), model]:
        sync_path(path)


def add_version(staged: Path, repository: Path, *, above: int = 0) -> PublishedModel:
    """Rename the one version of a staged model, ``staged``, into place as the newest of a locked repository.

    It is in the journal until `finish`. Version numbers up to ``above`` are not given again.
    """
    name, model = staged.name, repository / staged.name
    new = not model.exists()
    number = max(above, *(() if new else versions_of(model)), 0) + 1
    config = model / CONFIG_FILE
    previous_config = config.read_text(encoding="utf-8") if config.exists() else None
    begin(repository, staged.parent, UnfinishedVersion(name, number, new, previous_config))
    if new:
        if number > 1:
            (staged / "1").rename(staged / str(number))
        staged.rename(model)
        sync_path(repository)
    else:
        (staged / "1").rename(model / str(number))
        (staged / CONFIG_FILE).replace(config)
        sync_path(model)
    return PublishedModel(name, number, model / str(number))


def versions_of(model: Path) -> tuple[int, ...]:
    """The versions Triton sees in a model's folder, oldest first."""
    folders = (path for path in model.iterdir() if path.is_dir() and VERSION_NAME.fullmatch(path.name))
    return tuple(sorted(int(path.name) for path in folders))


def first_of_the_same(model: Path) -> dict[int, int]:
    """For every version of a model's folder, the oldest version with the very same card: itself, or what it repeats."""
    oldest: dict[str, int] = {}
    firsts: dict[int, int] = {}
    for version in versions_of(model):
        card = model / str(version) / CARD_FILE
        firsts[version] = oldest.setdefault(sha256_of_file(card), version) if card.is_file() else version
    return firsts


def model_folder(repository: Path, name: str) -> Path:
    """Where a repository keeps a model.

    Raises:
        RepositoryError: if it has no such model.
        InputError: if that cannot be a model's name.
    """
    check_is_repository(repository)
    folder = repository / check_model_name(name)
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in _model_folders(repository)))
        raise RepositoryError(f"{repository} has no model {name!r}; it has {known or 'none'}")
    return folder


def _read_model(folder: Path) -> RepositoryModel:
    try:
        return RepositoryModel(folder.name, versions_of(folder), read_newest(folder)[0], None)
    except (InputError, OSError) as error:
        return RepositoryModel(folder.name, versions_of(folder), None, str(error))


def read_newest(model: Path) -> tuple[ModelCard, Path]:
    """The card of a model's newest version, and the file that is served of it.

    Raises:
        InputError: if the version or a file is missing or cannot be read, or config.pbtxt is not the version's.
    """
    if not (versions := versions_of(model)):
        raise RepositoryError(f"{model} has no version")
    newest = model / str(versions[-1])
    card = ModelCard.read(newest / CARD_FILE)
    config = read_config(model / CONFIG_FILE)
    served = config.default_model_filename or MODEL_FILE
    if Path(served).name != served or not (newest / served).is_file():
        raise RepositoryError(f"{newest} has no {served}")
    if config.parameters[CARD_HASH_PARAMETER].string_value != sha256_of_file(newest / CARD_FILE):
        raise RepositoryError(f"{model / CONFIG_FILE} does not belong to version {versions[-1]}: publish it again")
    return card, newest / served


def read_config(path: Path) -> pb.ModelConfig:
    """A model's config.pbtxt; a RepositoryError if it is missing, or is none."""
    try:
        return parse_config(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, text_format.ParseError) as error:
        raise RepositoryError(f"{path} cannot be read: {' '.join(str(error).split())}") from error

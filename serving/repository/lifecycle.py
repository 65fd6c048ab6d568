"""Changes to a model repository: bundles published and put into service, versions rolled back, pruned, removed.

Version numbers only grow, and the newest version is the one that serves; config.pbtxt belongs to it. Rolling back
therefore publishes the older version again, as the newest: its files are hard links, so it takes no room, its
configuration is made from its own card, and whatever watches versions (clients, `semia.serving.overview`, the next
publisher) needs to know nothing of rollbacks. Telling Triton to serve an older number instead would leave the newest
version's palette and canvas in the configuration, for clients to draw with.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from semia.core import DEFAULT_KEEP
from semia.core.access import ServerAccess
from semia.core.errors import InputError
from semia.core.model_card import CARD_FILE, ModelCard, hash_problem
from semia.serving.errors import ModelLoadError, PublishError, RepositoryError, ServerError, ServerUnreachableError
from semia.serving.model_config import ServingSettings, served_file, settings_from_config
from semia.serving.repository.layout import (
    PublishedModel,
    add_version,
    check_classes,
    check_is_repository,
    first_of_the_same,
    model_folder,
    present_config,
    present_settings,
    read_bundle_card,
    stage_bundle,
    stage_config,
    versions_of,
)
from semia.serving.repository.transaction import CONFIG_FILE, finish, locked, staging_folder, undone_on_failure
from semia.serving.triton.control import (
    ANONYMOUS,
    LOAD_TIMEOUT_S,
    ModelState,
    check_answer,
    load_model,
    model_states,
    unload_model,
)

Stage = Callable[[Path], Path]
"""Lays a model out in a staging folder as `semia.serving.repository.layout.add_version` takes it."""


@dataclass(frozen=True)
class Update:
    """What publishing into service did."""

    published: PublishedModel  # the version that now serves
    pruned: tuple[int, ...]  # versions that were deleted, oldest first


@dataclass(frozen=True)
class Rollback:
    """What rolling back did."""

    published: PublishedModel  # the newest version now
    repeats: int  # the version that it is again


def publish(
    bundle: Path,
    repository: Path,
    *,
    name: str | None = None,
    settings: ServingSettings | None = None,
    change_classes: bool = False,
) -> PublishedModel:
    """Add a bundle to a repository (made if need be) as a new model or the next version of one.

    The version is staged whole, then renamed into place, and config.pbtxt is replaced last. A process killed
    between these two renames leaves the new version under the old configuration: `list_models` reports it, and
    the next writer or server of the repository takes it back. Publishers of one repository wait for each other.
    No server is told: `publish_and_load` does that.

    Args:
        bundle: folder of ``model.onnx`` and ``model_card.json``, and of ``model.plan`` where there is an engine.
        repository: the model repository.
        name: what to call the served model; None: as its card does.
        settings: how the model is run; None: as it is now, see `semia.serving.present_settings`.
        change_classes: publish also if class ids mean other classes than in the version before.

    Raises:
        BundleError: if the bundle lacks a file or its graph is not the one its card describes.
        RepositoryError: if the repository is something else, such as a bundle.
        InputError: if ``name`` cannot name a model, or the bundle's engine cannot be served as told.
        ClassesChangedError: if class ids mean other classes than before.
        PublishError: if the disk refuses; the repository is then as it was.
    """
    card = read_bundle_card(bundle, name)
    with (
        _writing(repository, f"publish {card.name!r} to") as folder,
        _added(_staged_bundle(bundle, card, folder, settings, change_classes), folder) as published,
    ):
        return published


def publish_and_load(
    bundle: Path,
    repository: Path,
    url: str,
    *,
    name: str | None = None,
    settings: ServingSettings | None = None,
    keep: int = DEFAULT_KEEP,
    change_classes: bool = False,
    timeout_s: float = LOAD_TIMEOUT_S,
    access: ServerAccess = ANONYMOUS,
) -> Update:
    """Publish a bundle and put it into service while callers run; they notice a new version and nothing else.

    The version is staged, renamed into place, loaded and warmed up beside the old one, and made to draw one picture;
    only then are old ones pruned. If anything of that fails, the version is taken out of the repository again, which
    is then as it was, and the old one goes on serving. Writers of one repository wait for each other.

    Bundle, repository, name, settings and ``change_classes`` are as `publish` takes them. The server at
    ``url``, HOST:PORT of its gRPC interface, must run with ``--model-control-mode explicit``. ``keep`` versions stay on
    the disk, at least 1; ``timeout_s`` bounds loading, and the first picture.

    Raises:
        BundleError, RepositoryError, ClassesChangedError, PublishError: as `publish`.
        InputError: if ``name`` cannot name a model, or ``keep`` is below 1.
        ServerUnreachableError: if no server answers at ``url``.
        AccessRefusedError: if it keeps loading to its operators, and ``access`` lacks the right key.
        ModelLoadError: if the server cannot load the version.
        ModelAnswerError: if the version was loaded and does not draw.
    """
    _check_keep(keep)
    card = read_bundle_card(bundle, name)
    with _writing(repository, f"publish {card.name!r} to") as folder:
        stage = _staged_bundle(bundle, card, folder, settings, change_classes)
        published = _put_into_service(stage, card.name, folder, url, timeout_s, access)
        return Update(published, _prune(folder / card.name, keep, spared=published.version))


def rollback(
    repository: Path,
    name: str,
    *,
    to: int | None = None,
    url: str | None = None,
    change_classes: bool = False,
    timeout_s: float = LOAD_TIMEOUT_S,
    access: ServerAccess = ANONYMOUS,
) -> Rollback:
    """Publish an older version of a model again, as its newest, run as the newest is run now.

    Without ``to``, that is the newest which is older than everything that equals the present one. With ``url``, the
    server at this gRPC address puts it into service, as by `publish_and_load`. Unless
    ``change_classes``, class ids must mean what they mean in the newest version.

    Raises:
        RepositoryError: if there is no such model or version, nothing older, or it is damaged.
        InputError: if config.pbtxt is not ours.
        ClassesChangedError: if class ids mean other classes than now.
        PublishError: if the disk refuses.
        ServerError: as `publish_and_load`.
    """
    with _changing(repository, name, "roll back {} in") as model:
        version = _version_to_return_to(model, to)
        if not change_classes:
            card = dataclasses.replace(ModelCard.read(model / str(version) / CARD_FILE), name=name)
            check_classes(present_config(model.parent, name), card, "roll back with --change-classes if that is meant")
        stage = functools.partial(_stage_again, model, version)
        if url is not None:
            return Rollback(_put_into_service(stage, name, model.parent, url, timeout_s, access), version)
        with _added(stage, model.parent) as published:
            return Rollback(published, version)


def prune(
    repository: Path,
    name: str,
    *,
    keep: int = DEFAULT_KEEP,
    url: str | None = None,
    access: ServerAccess = ANONYMOUS,
) -> tuple[int, ...]:
    """Delete all versions of a model but the newest ``keep``, at least 1; returns those deleted.

    The one that the server at the gRPC address ``url`` serves stays, too; without a server the newest is taken to.

    Raises:
        RepositoryError: if there is no such model.
        InputError: if ``keep`` is below 1.
        PublishError: if the disk refuses.
        ServerUnreachableError: if no server answers at ``url``.
        ModelLoadError: if the server could not load a version that is there: then nothing is deleted.
    """
    _check_keep(keep)
    with _changing(repository, name, "prune {} in") as model:
        state = ModelState(None, None) if url is None else _state(url, name, access)
        if state.problem is not None and (model / str(state.failed_version)).is_dir():
            raise ModelLoadError(
                f"nothing of {name!r} is pruned, for {url} cannot load its version {state.failed_version}: "
                f"{state.problem}"
            )
        return _prune(model, keep, spared=state.version)


def remove(repository: Path, name: str, *, url: str | None = None, access: ServerAccess = ANONYMOUS) -> None:
    """Delete a model with all its versions.

    With ``url``, the server at this gRPC address unloads it first; requests in flight are answered.

    Raises:
        RepositoryError: if there is no such model.
        PublishError: if the disk refuses.
        ServerUnreachableError: if no server answers at ``url``.
        ModelUnloadError: if the server does not let go of the model; it is then still there.
    """
    with _changing(repository, name, "remove {} from") as model:
        if url is not None and _state(url, name, access).newest:
            unload_model(url, name, access=access)
        with staging_folder(model.parent) as staging:
            model.rename(staging / name)


def _check_keep(keep: int) -> None:
    if keep < 1:
        raise InputError(f"at least 1 version must be kept, not {keep}")


@contextlib.contextmanager
def _writing(repository: Path, what: str) -> Iterator[Path]:
    """Hold a repository; what its disk refuses is an error of ours. Yields its real path."""
    try:
        check_is_repository(repository, may_be_missing=True)
        folder = repository.resolve()  # a link's target has its neighbors on its own disk
        with locked(folder):
            yield folder
    except OSError as error:
        raise PublishError(f"cannot {what} {repository}: {error}") from error


@contextlib.contextmanager
def _changing(repository: Path, name: str, what: str) -> Iterator[Path]:
    """Hold a repository for the sake of a model that it has; yields the model's folder."""
    model_folder(repository, name)  # before a lock is made
    with _writing(repository, what.format(repr(name))) as folder:
        yield model_folder(folder, name)


def _staged_bundle(
    bundle: Path, card: ModelCard, repository: Path, settings: ServingSettings | None, change_classes: bool
) -> Stage:
    """How a bundle is laid out beside the version that a repository has, once its classes are known to be the same."""
    if not change_classes:
        check_classes(present_config(repository, card.name), card)
    return functools.partial(stage_bundle, bundle, card, settings or present_settings(repository, card.name))


@contextlib.contextmanager
def _added(stage: Stage, repository: Path, above: int = 0) -> Iterator[PublishedModel]:
    """Add a version to a repository that is held; it is taken back if the ``with`` block fails."""
    with undone_on_failure(repository):
        with staging_folder(repository) as staging:
            published = add_version(stage(staging), repository, above=above)
        yield published
        finish(repository)


def _state(url: str, name: str, access: ServerAccess) -> ModelState:
    return model_states(url, access=access).get(name, ModelState(None, None))


def _put_into_service(
    stage: Stage, name: str, repository: Path, url: str, timeout_s: float, access: ServerAccess
) -> PublishedModel:
    before = _state(url, name, access)  # a server that is not there is said before anything is published
    published: PublishedModel | None = None
    try:
        # A number that the server has tried before means something else to it, and maybe to callers.
        with _added(stage, repository, above=before.newest) as published:
            _load(published, repository, url, timeout_s, access)
    except BaseException as error:
        if published is None:
            raise
        serving = _serve_as_before(url, name, before, access)
        if not isinstance(error, ServerError):
            raise
        raise type(error)(f"{error}; version {published.version} is taken back, {serving}") from error
    return published


def _load(published: PublishedModel, repository: Path, url: str, timeout_s: float, access: ServerAccess) -> None:
    loaded = load_model(url, published.name, timeout_s=timeout_s, access=access)
    if loaded != published.version:
        raise ModelLoadError(
            f"{url} serves version {loaded} of {published.name!r} where version {published.version} is the newest in "
            f"{repository}: that is not the repository it serves"
        )
    card = ModelCard.read(published.folder / CARD_FILE)
    check_answer(url, published.name, loaded, card.canvas, timeout_s=timeout_s, access=access)


def _serve_as_before(url: str, name: str, before: ModelState, access: ServerAccess) -> str:
    """Have the server return to what it served, if it has left that; says in words what serves now."""
    try:
        now = _state(url, name, access)
        if now.version != before.version or now.loading:
            if before.version is None:
                unload_model(url, name, access=access)
            else:
                load_model(url, name, access=access)
            now = _state(url, name, access)
    except ServerUnreachableError:
        return "and the server no longer answers"
    except ServerError as error:
        return f"and the server does not go back: {error}"
    return "no version of it serves" if now.version is None else f"version {now.version} goes on serving"


def _prune(model: Path, keep: int, *, spared: int | None) -> tuple[int, ...]:
    versions = versions_of(model)
    old = tuple(version for version in versions[:-keep] if version != spared)
    if old:
        with staging_folder(model.parent) as staging:
            for version in old:
                (model / str(version)).rename(staging / str(version))
    return old


def _version_to_return_to(model: Path, to: int | None) -> int:
    firsts = first_of_the_same(model)
    known = ", ".join(map(str, firsts))
    if not firsts:
        raise RepositoryError(f"{model} has no version")
    newest = max(firsts)
    if to is None:
        older = [version for version in firsts if version < firsts[newest]]
        if not older:
            same = "the oldest" if firsts[newest] == newest else f"version {firsts[newest]} again, the oldest"
            others = [str(version) for version in firsts if firsts[version] != firsts[newest]]
            choice = f"say to which of {', '.join(others)} to roll back" if others else "there is none to roll back to"
            raise RepositoryError(f"version {newest} of {model.name!r} is {same}: {choice}")
        return older[-1]
    if to not in firsts:
        raise RepositoryError(f"{model.name!r} has no version {to}; it has {known}")
    if to == newest:
        raise RepositoryError(f"version {to} of {model.name!r} is the newest already; it has {known}")
    return to


def _stage_again(model: Path, version: int, staging: Path) -> Path:
    """Lay an older version out anew, its files linked, its configuration made from its card."""
    source, staged = model / str(version), staging / model.name / "1"
    card = dataclasses.replace(ModelCard.read(source / CARD_FILE), name=model.name)
    settings = settings_from_config((model / CONFIG_FILE).read_text(encoding="utf-8"))
    served = source / served_file(card, settings.accelerator)
    if not served.is_file():
        raise RepositoryError(
            f"version {version} of {model.name!r} has no {served.name}, which is what is served now: publish its "
            "bundle again"
        )
    if problem := hash_problem(served, card):
        raise RepositoryError(f"{served} {problem}: publish its bundle again")
    staged.mkdir(parents=True)
    for file in (served, source / CARD_FILE):
        try:
            os.link(file, staged / file.name)
        except OSError:  # a file system without links, or another user's files
            shutil.copyfile(file, staged / file.name)
    stage_config(staged.parent, card, settings)
    return staged.parent

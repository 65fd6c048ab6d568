"""What a model repository holds: beside what a server says of it, and beside what its model cards say of it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semia.core.access import ServerAccess
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, MODEL_FILE, PLAN_FILE, ModelCard, hash_problem
from semia.serving.errors import AccessRefusedError, RepositoryError, ServerUnreachableError
from semia.serving.model_config import CARD_HASH_PARAMETER, model_config
from semia.serving.repository.layout import (
    RepositoryModel,
    first_of_the_same,
    list_models,
    model_folder,
    read_config,
    versions_of,
)
from semia.serving.repository.transaction import CONFIG_FILE, is_being_changed, unfinished_version
from semia.serving.triton.control import ANONYMOUS, ModelState, model_states

State = Literal["ready", "loading", "failed", "not loaded", "unknown"]

GENERATOR_FILE = "generator.safetensors"  # a run folder's weights

PARAMETERS_OF_CARD = ("canvas_height", "canvas_width", "palette", "class_names")


@dataclass(frozen=True)
class ModelOverview:
    """One model: its folder and its service."""

    name: str
    versions: tuple[int, ...]  # in the repository, oldest first; none where only the server knows the model
    repeats: dict[int, int]  # versions that are older ones again, with those
    serving: int | None  # the version that answers, None where none does or no server was asked
    state: State  # "unknown" where no server was asked, or none answered
    reason: str | None  # why a version in the repository could not be loaded
    problem: str | None  # what is wrong with the folder
    card: ModelCard | None  # of the newest version; None where the folder is broken
    size_bytes: int  # of the folder; what several versions share counts once


@dataclass(frozen=True)
class Overview:
    """All models by name, and whether the server answered."""

    models: tuple[ModelOverview, ...]
    server_problem: str | None  # why the server said nothing; None where it answered, or was not asked


def overview(repository: Path | None, url: str | None = None, *, access: ServerAccess = ANONYMOUS) -> Overview:
    """List the models of a repository, of the server at the gRPC address ``url``, or of both.

    A server that does not answer does not matter.

    Raises:
        RepositoryError: if there is no such repository.
    """
    states: dict[str, ModelState] | None = None
    server_problem = None
    if url is not None:
        try:
            states = model_states(url, access=access)
        except (ServerUnreachableError, AccessRefusedError) as error:
            server_problem = str(error)
    listed = {} if repository is None else {model.name: model for model in list_models(repository)}
    interrupted = {} if repository is None else interruption(repository)
    models = []
    for name in sorted({*listed, *(states or {})}):
        model = listed.get(name, RepositoryModel(name, (), None, None))
        repeats, size_bytes = ({}, 0) if repository is None else _read_folder(repository / name)
        served = None if states is None else states.get(name, ModelState(None, None))
        state, reason = _state(served, model.versions)
        models.append(
            ModelOverview(
                name=name,
                versions=model.versions,
                repeats=repeats,
                serving=None if served is None else served.version,
                state=state,
                reason=reason,
                problem=interrupted.get(name) or model.problem,
                card=model.card,
                size_bytes=size_bytes,
            )
        )
    return Overview(tuple(models), server_problem)


def interruption(repository: Path) -> dict[str, str]:
    """One line about the model that a killed publisher left unfinished, by its name; empty if there is none.

    Raises:
        RepositoryError: if the journal is not ours.
    """
    unfinished = unfinished_version(repository)
    if unfinished is None or is_being_changed(repository):
        return {}
    interrupted = f"publishing version {unfinished.version} was interrupted"
    return {unfinished.model: f"{interrupted}: whoever changes or serves {repository} next takes it back"}


def _state(state: ModelState | None, versions: tuple[int, ...]) -> tuple[State, str | None]:
    """A model's state and, if a version that still is there could not be loaded, why."""
    if state is None:
        return "unknown", None
    # The server remembers versions that were taken back for as long as it runs.
    matters = not versions or state.failed_version in versions
    reason = f"version {state.failed_version}: {state.problem}" if state.problem is not None and matters else None
    if state.loading:
        return "loading", reason
    if state.version is not None:
        return "ready", reason
    return "not loaded" if reason is None else "failed", reason


def _read_folder(folder: Path) -> tuple[dict[int, int], int]:
    """Which of a model's versions are which older ones again, and the size of its folder."""
    try:
        repeats = {version: first for version, first in first_of_the_same(folder).items() if version != first}
        files = {}
        for path in folder.rglob("*"):
            status = path.lstat()
            files[status.st_dev, status.st_ino] = 0 if path.is_dir() else status.st_size
    except FileNotFoundError:  # pruned or removed while we looked
        return {}, 0
    return repeats, sum(files.values())


@dataclass(frozen=True)
class Verification:
    """What was found in one model's folder."""

    name: str
    versions: tuple[int, ...]  # all were read, oldest first
    files: int  # whose hashes were compared
    problems: tuple[str, ...]  # one line each; none: all is as published


def verify(repository: Path, names: tuple[str, ...] = ()) -> list[Verification]:
    """Compare every file of every version with its card, and config.pbtxt with the newest version.

    Nothing is changed and nobody waits: a model that is published into meanwhile may have passing problems. Without
    ``names``, all models are verified.

    Raises:
        RepositoryError: if there is no such repository or model.
    """
    interrupted = interruption(repository) if repository.is_dir() else {}
    found = []
    for name in names or [model.name for model in list_models(repository)]:
        folder = model_folder(repository, name) if names else repository / name
        versions = versions_of(folder)
        problems = [interrupted[name]] if name in interrupted else []
        known = {CONFIG_FILE, *map(str, versions)}
        others = sorted(path.name for path in folder.iterdir() if path.name not in known)
        problems += [f"{other} is not of a model" for other in others]
        files = 0
        for version in versions:
            read, wrong = _verify_version(folder / str(version))
            files += read
            problems += wrong
        problems += _verify_config(folder, versions)
        found.append(Verification(name, versions, files, tuple(problems)))
    return found


def verify_exported(repository: Path, name: str, *, bundle: Path | None = None, run: Path | None = None) -> list[str]:
    """What of a model's newest version is not what was exported, one line each.

    Its card must be the bundle's to the byte, and the run's weights must have the hash that the card gives.

    Raises:
        RepositoryError: if there is no such model, or it has no version.
        InputError: if its card, the bundle or the run folder cannot be read.
    """
    folder = model_folder(repository, name)
    if not (versions := versions_of(folder)):
        raise RepositoryError(f"{folder} has no version")
    published = folder / str(versions[-1]) / CARD_FILE
    card = ModelCard.read(published)
    problems = []
    if bundle is not None:
        ModelCard.read(bundle / CARD_FILE)
        if sha256_of_file(bundle / CARD_FILE) != sha256_of_file(published):
            problems.append(f"version {versions[-1]} is another export than {bundle}")
    if run is not None:
        if not (run / GENERATOR_FILE).is_file():
            raise InputError(f"{run} has no {GENERATOR_FILE}")
        if sha256_of_file(run / GENERATOR_FILE) != card.generator_sha256:
            problems.append(f"version {versions[-1]} was exported from another generator than that of {run}")
    return problems


def _verify_version(version: Path) -> tuple[int, list[str]]:
    """How many files of a version were compared, and what is wrong with it."""
    try:
        card = ModelCard.read(version / CARD_FILE)
    except InputError as error:
        return 0, [str(error)]
    problems = []
    files = 1
    for path in sorted(version.iterdir()):
        if path.name in (MODEL_FILE, PLAN_FILE) and path.is_file():
            files += 1
            try:
                problem = hash_problem(path, card)
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
            if problem is not None:
                problems.append(f"{path} {problem}")
        elif path.name != CARD_FILE:
            problems.append(f"{path} is not of a model")
    if files == 1:
        problems.append(f"{version} has neither {MODEL_FILE} nor {PLAN_FILE}")
    return files, problems


def _verify_config(folder: Path, versions: tuple[int, ...]) -> list[str]:
    """What in config.pbtxt is not of the newest version; how the model is run is the operator's business."""
    if not versions:
        return [f"{folder} has no version"]
    newest, path = folder / str(versions[-1]), folder / CONFIG_FILE
    try:
        config = read_config(path)
    except RepositoryError as error:
        return [str(error)]
    try:
        card, card_sha256 = ModelCard.read(newest / CARD_FILE), sha256_of_file(newest / CARD_FILE)
    except InputError:
        return []  # said of the version
    if config.parameters[CARD_HASH_PARAMETER].string_value != card_sha256:
        return [f"{path} is not of version {versions[-1]}: its {CARD_HASH_PARAMETER} is not that of the card"]
    expected = model_config(dataclasses.replace(card, engine=None), card_sha256)  # an engine has bounds of its own
    problems = [
        f"{path} has another {key} than the card of version {versions[-1]}"
        for key in PARAMETERS_OF_CARD
        if config.parameters[key].string_value != expected.parameters[key].string_value
    ]
    if config.name not in ("", folder.name):
        problems.append(f"{path} is of a model {config.name!r}")
    for field in ("input", "output"):
        if [*getattr(config, field)] != [*getattr(expected, field)]:
            problems.append(f"{path} has another {field} than the card of version {versions[-1]}")
    served = config.default_model_filename or MODEL_FILE
    if not (newest / served).is_file():
        problems.append(f"{newest} has no {served}, which {path} serves")
    return problems

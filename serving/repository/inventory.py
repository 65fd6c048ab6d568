"""What a model repository holds, joined with what a server says about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semia.core.access import ServerAccess
from semia.core.model_card import ModelCard
from semia.serving.errors import AccessRefusedError, ServerUnreachableError
from semia.serving.repository.layout import first_of_the_same, list_models
from semia.serving.repository.transaction import is_being_changed, unfinished_version
from semia.serving.triton.control import ANONYMOUS, ModelState, model_states

State = Literal["ready", "loading", "failed", "not loaded", "unknown"]


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
    """List the models of a repository, of a server, or of both.

    Args:
        repository: the model repository; None: only the server is asked.
        url: gRPC address of the server; None: it is not asked. One that does not answer does not matter.
        access: what that server asks for.

    Raises:
        RepositoryError: if there is no such repository.
    """
    states, server_problem = _ask(url, access)
    listed = {} if repository is None else {model.name: model for model in list_models(repository)}
    interrupted = {} if repository is None else _interrupted(repository)
    models = []
    for name in sorted({*listed, *(states or {})}):
        model = listed.get(name)
        versions = model.versions if model is not None else ()
        repeats, size_bytes = ({}, 0) if repository is None or model is None else _read_folder(repository / name)
        state, reason = _state(None if states is None else states.get(name, ModelState(None, None)), versions)
        models.append(
            ModelOverview(
                name=name,
                versions=versions,
                repeats=repeats,
                serving=states[name].version if states is not None and name in states else None,
                state=state,
                reason=reason,
                problem=interrupted.get(name) or (model.problem if model is not None else None),
                card=model.card if model is not None else None,
                size_bytes=size_bytes,
            )
        )
    return Overview(tuple(models), server_problem)


def interruption(repository: Path) -> tuple[str, str] | None:
    """The model that a killed publisher left unfinished and one line about it; None if there is none.

    Raises:
        RepositoryError: if the journal is not ours.
    """
    unfinished = unfinished_version(repository)
    if unfinished is None or is_being_changed(repository):
        return None
    return unfinished.model, (
        f"publishing version {unfinished.version} was interrupted: whoever changes or serves {repository} next takes "
        "it back"
    )


def _interrupted(repository: Path) -> dict[str, str]:
    found = interruption(repository)
    return {} if found is None else dict([found])


def _ask(url: str | None, access: ServerAccess) -> tuple[dict[str, ModelState] | None, str | None]:
    if url is None:
        return None, None
    try:
        return model_states(url, access=access), None
    except (ServerUnreachableError, AccessRefusedError) as error:
        return None, str(error)


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

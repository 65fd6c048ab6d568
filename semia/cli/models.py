"""``semia models``: what a repository holds and a server serves, and what becomes of it."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from semia.cli.console import format_versions, print_error, print_info, stdout
from semia.cli.options import (
    Count,
    OptionalUrlOption,
    RepositoryOption,
    TimeoutOption,
    UrlOption,
    connection_options,
    explained,
)
from semia.core import DEFAULT_KEEP, DEFAULT_URL, REPOSITORY_FOLDER
from semia.core.errors import InputError, SemiaError
from semia.core.palette import Palette

if TYPE_CHECKING:
    from semia.core.access import ServerAccess
    from semia.serving import ModelOverview, Overview

COLUMNS = ("model", "versions", "state", "canvas", "size", "exported", "quality")
SHOWN_VERSIONS, SHOWN_FIGURES = 3, 2  # of those that a model has; `semia models --json` tells all

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The model's name; `semia models` lists them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: a JSON object instead of a table.")]

group = typer.Typer()


@group.callback(invoke_without_command=True)
@group.command(
    "list",
    help=f"""List models: versions, state, canvas, classes, size, quality.

    The server is asked at {DEFAULT_URL} if no --url is given; without a server the repository alone is listed.
    """,
)
@connection_options
def models(
    context: typer.Context,
    repository: RepositoryOption = REPOSITORY_FOLDER,
    url: OptionalUrlOption = None,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 10.0,
    *,
    access: "ServerAccess",
) -> None:
    """List the models of a repository and a server; load, unload, roll back, prune, remove and verify them.

    Without a sub-command, `semia models` does what `semia models list` does, with the same options.
    """
    if context.invoked_subcommand is not None:
        sources = [context.get_parameter_source(name) for name in context.params]
        if any(source is not None and source.name == "COMMANDLINE" for source in sources):
            raise InputError(f"options of `semia models {context.invoked_subcommand}` come after its name")
        return
    from semia.serving import overview

    found = overview(repository if repository.is_dir() else None, url or DEFAULT_URL, access=access)
    if found.server_problem is not None and not found.models:
        raise SemiaError(
            f"nothing is published in {repository}, and {found.server_problem}: run `semia publish`, start a server "
            "with `semia serve`, or give --repository or --url"
        )
    palettes = _palettes(found, url or DEFAULT_URL, timeout, access)
    if as_json:
        stdout.print(json.dumps(_for_programs(found, palettes), indent=2), soft_wrap=True)
    else:
        _show(found, palettes)
        if found.server_problem is not None and url is None:
            print_info(f"no server answers at {DEFAULT_URL}; --url asks another")
    if found.server_problem is not None and url is not None:
        raise SemiaError(found.server_problem)


@group.command("load")
@connection_options
def load(name: NameArgument, url: UrlOption = DEFAULT_URL, *, access: "ServerAccess") -> None:
    """Have a server load the newest version of a model from its repository."""
    from semia.serving import load_model

    version = load_model(url, name, access=access)
    print_info(f"{url} now serves {name} version {version}", "model_loaded", model=name, version=version, url=url)


@group.command("unload")
@connection_options
def unload(name: NameArgument, url: UrlOption = DEFAULT_URL, *, access: "ServerAccess") -> None:
    """Have a server let go of a model; requests in flight are answered, and the files stay."""
    from semia.serving import model_states, unload_model

    states = model_states(url, access=access)
    if name not in states:
        raise InputError(f"{url} has no model {name!r}; it has {', '.join(sorted(states)) or 'none'}")
    unload_model(url, name, access=access)
    print_info(f"{url} no longer serves {name}", "model_unloaded", model=name, url=url)


@group.command("rollback")
@connection_options
def rollback(
    name: NameArgument,
    to: Annotated[int | None, typer.Option(min=1, metavar="VERSION")] = None,
    repository: RepositoryOption = REPOSITORY_FOLDER,
    url: OptionalUrlOption = None,
    change_classes: bool = False,
    *,
    access: "ServerAccess",
) -> None:
    """Publish an older version again as the newest; with --url, put it into service.

    Version numbers only grow, so that clients notice. The files are linked, so it takes no room on the disk.

    Options:
        to: By default the one before the present one.
    """
    from semia.serving import rollback as roll_back

    done = roll_back(repository, name, to=to, url=url, change_classes=change_classes, access=access)
    version, repeats = done.published.version, done.repeats
    what = f"published: {done.published.folder} (model {name}, version {version}, which is version {repeats} again)"
    print_info(what, "rolled_back", model=name, version=version, repeats=repeats, url=url)
    if url is None:
        print_info(f"next: semia models load {name}")
    else:
        print_info(f"{url} now serves {name} version {version}")


@group.command("prune")
@connection_options
def prune(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    all_: Annotated[bool, typer.Option("--all")] = False,
    keep: Count = DEFAULT_KEEP,
    repository: RepositoryOption = REPOSITORY_FOLDER,
    url: OptionalUrlOption = None,
    *,
    access: "ServerAccess",
) -> None:
    """Delete old versions; with --url, never the one that the server serves.

    Options:
        name: The model's name.
        all_: Every model of the repository.
        keep: How many of the newest versions stay.
    """
    from semia.serving import list_models
    from semia.serving import prune as prune_model

    if (name is None) != all_:
        raise InputError("say which model to prune: NAME, or --all")
    failures: list[SemiaError] = []
    for each in [name] if name is not None else [model.name for model in list_models(repository)]:
        try:
            pruned = prune_model(repository, each, keep=keep, url=url, access=access)
            deleted = f"deleted {format_versions(pruned)}" if pruned else "nothing to delete"
            print_info(f"{each}: {deleted}", "pruned", model=each, versions=pruned)
        except SemiaError as error:
            if name is not None:
                raise
            print_error(str(error))
            failures.append(error)
    if failures:
        raise typer.Exit(failures[0].exit_code)


@group.command("remove")
@connection_options
def remove(
    name: NameArgument,
    repository: RepositoryOption = REPOSITORY_FOLDER,
    url: OptionalUrlOption = None,
    yes: bool = False,
    *,
    access: "ServerAccess",
) -> None:
    """Delete a model with all its versions; with --url, the server unloads it first.

    Options:
        yes: Do not ask.
    """
    from semia.serving import remove as remove_model
    from semia.serving.repository.layout import model_folder, versions_of

    versions = format_versions(versions_of(model_folder(repository, name)))
    if not yes:
        if not typer.get_text_stream("stdin").isatty():
            raise InputError(f"removing {name!r} deletes its {versions} for good: add --yes")
        if not typer.confirm(f"delete {repository / name} with {versions} for good?"):
            raise SemiaError(f"{name} is kept")
    remove_model(repository, name, url=url, access=access)
    print_info(f"removed: {name}, {versions}", "removed", model=name)


@group.command("verify")
@explained
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    repository: RepositoryOption = REPOSITORY_FOLDER,
    bundle: Path | None = None,
    run: Path | None = None,
) -> None:
    """Compare all files of all versions with their model cards, and the configurations with the newest ones.

    Says one line for each problem, and exits 1 if there is any.

    Options:
        names: Models; by default all.
        bundle: The newest version of the one NAME must be this bundle.
        run: ... must have been exported from this run's generator.
    """
    from semia.serving import verify as verify_models
    from semia.serving import verify_exported

    if (bundle is not None or run is not None) and len(names or []) != 1:
        raise InputError("--bundle and --run are compared with one model: give one NAME")
    found = verify_models(repository, tuple(names or []))
    table = Table("model", "versions", "files", "", box=None)
    problems = 0
    for model in found:
        wrong = [*model.problems]
        if bundle is not None or run is not None:
            wrong += verify_exported(repository, model.name, bundle=bundle, run=run)
        problems += len(wrong)
        for problem in wrong:
            print_error(f"{model.name}: {problem}")
        state = "as published" if not wrong else f"{len(wrong)} problem{'s' * (len(wrong) > 1)}"
        table.add_row(model.name, ", ".join(map(str, model.versions)), str(model.files), state)
    stdout.print(table)
    if problems:
        raise typer.Exit(1)


def _palettes(found: "Overview", url: str, timeout: float, access: "ServerAccess") -> dict[str, tuple[str, Palette]]:
    """Canvas and palette by model: of its card, or as the server tells them, where only it has the model."""
    cards = {model.name: model.card for model in found.models if model.card is not None}
    known = {name: (str(card.canvas), card.to_palette()) for name, card in cards.items()}
    foreign = [model.name for model in found.models if model.name not in known and model.serving is not None]
    if foreign:
        from semia.client import NotASemiaModelError, SynthesisClient

        with SynthesisClient(url, timeout_s=timeout, tls=access.tls, admin_key=access.admin_key) as client:
            for name in foreign:
                try:
                    description = client.describe(name)
                except NotASemiaModelError:
                    continue
                known[name] = str(description.canvas), description.palette
    return known


def _for_programs(found: "Overview", palettes: dict[str, tuple[str, Palette]]) -> dict[str, object]:
    models = []
    for model in found.models:
        card = dataclasses.asdict(model.card) if model.card is not None else {}
        canvas, palette = palettes.get(model.name, (None, None))
        wanted = ("exported_at", "quality", "preset", "precision", "generator", "generator_sha256", "graph_sha256")
        models.append(
            {field.name: getattr(model, field.name) for field in dataclasses.fields(model) if field.name != "card"}
            | {"canvas": canvas, "palette": palette.hex_codes if palette is not None else None}
            | {"class_names": palette.names if palette is not None else None}
            | {key: card.get(key) for key in wanted}
        )
    return {"server_problem": found.server_problem, "models": models}


def _show(found: "Overview", palettes: dict[str, tuple[str, Palette]]) -> None:
    """A line of facts for each model, and its classes below, which may be many; a table would squeeze both."""
    canvases = {name: canvas for name, (canvas, _) in palettes.items()}
    lines = [[*map(Text, COLUMNS)], *(_facts(model, canvases.get(model.name, "")) for model in found.models)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
    for line, model in zip(lines, [None, *found.models], strict=True):
        for cell, width in zip(line, widths, strict=True):
            cell.pad_right(width - cell.cell_len)
        facts = Text("  ").join(line)
        facts.rstrip()
        stdout.print(facts, style="bold" if model is None else "", soft_wrap=True)
        if model is not None and model.name in palettes:
            stdout.print(Text(" " * widths[0]).append(_swatches(palettes[model.name][1])), soft_wrap=True)
    for model in found.models:
        for problem in (model.problem, model.reason):
            if problem is not None:
                print_error(f"{model.name}: {problem}")


def _facts(model: "ModelOverview", canvas: str) -> list[Text]:
    """The cells of `COLUMNS`."""
    card = model.card
    figures = list(card.quality.items()) if card is not None and card.quality is not None else []
    return [
        Text(model.name, style="bold"),
        _versions(model),
        Text(_state(model)),
        Text(canvas),
        Text(f"{model.size_bytes / 1e6:.1f} MB" if model.versions else ""),
        Text(card.exported_at[:10] if card is not None else ""),
        Text(", ".join(f"{figure} {value:.3g}" for figure, value in figures[:SHOWN_FIGURES])),
    ]


def _versions(model: "ModelOverview") -> Text:
    """The last few, and the serving one marked: "..., 5, *6=4" serves the sixth, which is the fourth again."""
    known = model.versions or ((model.serving,) if model.serving is not None else ())
    shown = [version for version in known if version in known[-SHOWN_VERSIONS:] or version == model.serving]
    text = Text("..." if len(shown) < len(known) else "")
    for version in shown:
        again = f"={model.repeats[version]}" if version in model.repeats else ""
        serving = version == model.serving
        text.append(", " if text else "").append(f"{'*' * serving}{version}{again}", style="bold" if serving else "")
    return text


def _state(model: "ModelOverview") -> str:
    if model.state != "ready" or not model.versions or model.serving == model.versions[-1]:
        return model.state
    return f"ready, {model.versions[-1]} {'failed' if model.reason else 'not loaded'}"


def _swatches(palette: Palette) -> Text:
    swatches = Text()
    for code, words in zip(palette.hex_codes, palette.classes, strict=True):
        swatches.append("  ").append("  ", style=f"on {code}").append(f" {words}")
    return swatches

"""``semia publish``: a bundle becomes the next version of a served model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.console import StepDisplay, interrupted_by_sigterm, say
from semia.cli.options import DEFAULT_REPOSITORY, NameOption, RepositoryOption, ThreadsOption
from semia.errors import InputError

if TYPE_CHECKING:
    from serving import ServingSettings


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("publish")(publish)


def publish(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder made by `semia export`.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    name: NameOption = None,
    threads: ThreadsOption = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Measure which number of instances and threads, and whether batching, serves this model best on this "
            "machine, and write the choice and its reason into config.pbtxt. Takes minutes, best idle ones.",
        ),
    ] = False,
    load: Annotated[
        str | None,
        typer.Option("--load", metavar="URL", help="Also have the server at this gRPC address load the new version."),
    ] = None,
) -> None:
    """Add a bundle to the model repository as the next version of its model.

    A running server keeps answering with the version it has until it is told to load the new one, by --load or by
    starting it anew.
    """
    if tune and threads is not None:
        raise InputError("--tune chooses the threads itself: drop --threads")
    settings = _tuned(bundle) if tune else None
    model, version = publish_bundle(bundle, repository, name, threads, settings)
    if load is None:
        say("next: semia serve")
        return
    from serving import load_model

    loaded = load_model(load, model)
    say(f"{load} now serves {model} version {loaded}" if loaded == version else f"{load} serves version {loaded}")


def publish_bundle(
    bundle: Path, repository: Path, name: str | None, threads: int | None, settings: "ServingSettings | None" = None
) -> tuple[str, int]:
    """Publish and say so; returns the model's name and version. ``settings`` replace the default ones."""
    from serving import ServingSettings
    from serving import publish as publish_to

    published = publish_to(bundle, repository, name=name, settings=settings or ServingSettings(threads=threads))
    say(f"published: {published.folder} (model {published.name}, version {published.version})")
    return published.name, published.version


def _tuned(bundle: Path) -> "ServingSettings":
    from semia.bench.tuning import count_turns, describe, tune

    say(f"tuning {bundle} with a Triton of its own; whatever else runs here disturbs it")
    with interrupted_by_sigterm(), StepDisplay("turn", count_turns()) as display:
        settings = tune(bundle, say, display.update)
    say(f"chosen: {describe(settings)}")
    return settings

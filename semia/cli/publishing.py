"""``semia publish``: a bundle becomes the next version of a served model."""

from pathlib import Path
from typing import Annotated

import typer

from semia.cli.console import say
from semia.cli.options import DEFAULT_REPOSITORY, NameOption, RepositoryOption, ThreadsOption


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("publish")(publish)


def publish(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder made by `semia export`.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    name: NameOption = None,
    threads: ThreadsOption = None,
    load: Annotated[
        str | None,
        typer.Option("--load", metavar="URL", help="Also have the server at this gRPC address load the new version."),
    ] = None,
) -> None:
    """Add a bundle to the model repository as the next version of its model.

    A running server keeps answering with the version it has until it is told to load the new one, by --load or by
    starting it anew.
    """
    model, version = publish_bundle(bundle, repository, name, threads)
    if load is None:
        say("next: semia serve")
        return
    from serving import load_model

    loaded = load_model(load, model)
    say(f"{load} now serves {model} version {loaded}" if loaded == version else f"{load} serves version {loaded}")


def publish_bundle(bundle: Path, repository: Path, name: str | None, threads: int | None) -> tuple[str, int]:
    """Publish and say so; returns the model's name and version."""
    from serving import ServingSettings
    from serving import publish as publish_to

    published = publish_to(bundle, repository, name=name, settings=ServingSettings(threads=threads))
    say(f"published: {published.folder} (model {published.name}, version {published.version})")
    return published.name, published.version

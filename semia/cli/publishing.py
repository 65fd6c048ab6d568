"""``semia publish``: a bundle becomes the next version of a served model."""

import dataclasses
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from semia.accelerators import DEFAULT_ENGINE_CACHE, Accelerator
from semia.cli.console import StepDisplay, complain, interruptible, say
from semia.cli.options import DEFAULT_REPOSITORY, AnyRepositoryOption, NameOption, ThreadsOption
from semia.errors import InputError

if TYPE_CHECKING:
    from serving import ServingSettings

AcceleratorOption = Annotated[
    Accelerator | None,
    typer.Option(
        "--accelerator",
        help="Have ONNX Runtime use TensorRT or CUDA (the server then needs a GPU), or OpenVINO, or else refuse the "
        "model; without it, a bundle's engine is served if it has one.",
    ),
]
EngineCacheOption = Annotated[
    Path,
    typer.Option(
        "--engine-cache",
        help="Folder of the server in which --accelerator tensorrt keeps the engines it builds; its parent must exist.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("publish")(publish)


def publish(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder made by `semia export`.")],
    repository: AnyRepositoryOption = str(DEFAULT_REPOSITORY),
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
    accelerator: AcceleratorOption = None,
    engine_cache: EngineCacheOption = Path(DEFAULT_ENGINE_CACHE),
) -> None:
    """Add a bundle to the model repository as the next version of its model.

    A running server keeps answering with the version it has until it is told to load the new one, by --load or by
    starting it anew.
    """
    from serving import ServingSettings

    if tune and (threads is not None or accelerator is not None):
        raise InputError("--tune chooses the threads, for this machine's CPU: drop --threads and --accelerator")
    settings = _tuned(bundle) if tune else ServingSettings(threads=threads, accelerator=accelerator)
    settings = dataclasses.replace(settings, engine_cache=PurePosixPath(engine_cache))
    model, version = publish_bundle(bundle, repository, name, settings)
    if load is None:
        say("next: semia serve")
        return
    from serving import load_model

    loaded = load_model(load, model)
    say(f"{load} now serves {model} version {loaded}" if loaded == version else f"{load} serves version {loaded}")


def publish_bundle(bundle: Path, repository: str, name: str | None, settings: "ServingSettings") -> tuple[str, int]:
    """Publish and say so; returns the model's name and version."""
    from serving import is_object_store
    from serving import publish as publish_to

    if is_object_store(repository):
        return _publish_to_store(bundle, repository, name, settings)
    published = publish_to(bundle, Path(repository), name=name, settings=settings)
    say(f"published: {published.folder} (model {published.name}, version {published.version})")
    return published.name, published.version


def _publish_to_store(bundle: Path, url: str, name: str | None, settings: "ServingSettings") -> tuple[str, int]:
    from serving import ObjectRepository

    stored = ObjectRepository(url).publish(bundle, name=name, settings=settings)
    say(f"published: {stored.url} (model {stored.name}, version {stored.version})")
    if stored.serving != stored.version:
        complain(f"version {stored.serving} was published meanwhile, and is the one that is served")
    if not stored.exclusive:
        complain(f"warning: {url} keeps no conditions: see to it that only one publishes at a time")
    return stored.name, stored.version


def _tuned(bundle: Path) -> "ServingSettings":
    from semia.bench.tuning import count_turns, describe, tune

    say(f"tuning {bundle} with a Triton of its own; whatever else runs here disturbs it")
    with interruptible(), StepDisplay("turn", count_turns()) as display:
        settings = tune(bundle, say, display.update)
    say(f"chosen: {describe(settings)}")
    return settings

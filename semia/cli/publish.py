"""``semia publish``: a bundle becomes the next version of a served model."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semia.cli.console import StepDisplay, format_versions, interruptible, print_error, print_info
from semia.cli.options import AnyRepositoryOption, Count, LoadOption, OptionalCount, connection_options
from semia.core import DEFAULT_KEEP, REPOSITORY_FOLDER
from semia.core.errors import InputError
from semia.core.model_card import Accelerator

if TYPE_CHECKING:
    from semia.core.access import ServerAccess
    from semia.serving import ServingSettings, StoredVersion


@connection_options
def publish(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    repository: AnyRepositoryOption = str(REPOSITORY_FOLDER),
    name: str | None = None,
    threads: OptionalCount = None,
    tune: bool = False,
    load: LoadOption = None,
    keep: Count = DEFAULT_KEEP,
    accelerator: Accelerator | None = None,
    engine_cache: Path | None = None,
    max_batch: OptionalCount = None,
    queue_size: OptionalCount = None,
    queue_timeout: float | None = None,
    reset: bool = False,
    change_classes: bool = False,
    *,
    access: "ServerAccess",
) -> None:
    """Add a bundle to the model repository as the next version of its model.

    A running server keeps answering with the version it has until it is told to load the new one: by --url, which
    also deletes old versions beyond --keep once the new one has drawn a picture, or by `semia models load`.

    How a model is run (--tune, --threads, --accelerator, the bounds) is kept from one version to the next: say only
    what is to change.

    Options:
        bundle: Bundle folder made by `semia export`.
        tune: Measure which number of instances and threads, and whether batching, serves this model best on this
            machine, and write the choice and its reason into config.pbtxt. Takes minutes, best idle ones.
        accelerator: Have ONNX Runtime use TensorRT or CUDA (the server then needs a GPU), or OpenVINO, or else refuse
            the model; without it, a bundle's engine is served if it has one.
        engine_cache: Folder of the server in which --accelerator tensorrt keeps the engines it builds, by default
            /var/tmp/semia-tensorrt; its parent must exist.
        max_batch: Label maps one request may carry; more are refused with INVALID_ARGUMENT. By default 8, or as many
            as an answer of 256 MiB holds.
        queue_size: Requests that may wait for the model; more are refused at once with UNAVAILABLE. By default there
            is no such bound: with one, Triton 2.51 leaves some requests waiting half a second for no reason.
        queue_timeout: Seconds after which a request that still waits is refused with UNAVAILABLE, up to half a second
            late; below 1, an idle model may refuse too. At the price of --queue-size. By default a request waits until
            its caller's deadline, and is then dropped.
        reset: Run the model as a new one, with what is said here alone: earlier publications are forgotten.
    """
    from semia.serving import ServingSettings

    if tune and (threads is not None or accelerator is not None):
        raise InputError("--tune chooses the threads, for this machine's CPU: drop --threads and --accelerator")
    asked = {
        "threads": threads,
        "accelerator": accelerator,
        "engine_cache": None if engine_cache is None else PurePosixPath(engine_cache),
        "max_batch_size": max_batch,
        "queue_size": queue_size,
        "queue_timeout_s": queue_timeout,
    }
    changes: dict[str, Any] = {field: value for field, value in asked.items() if value is not None}
    ServingSettings(**changes)  # mistakes are said before minutes of tuning
    if tune:
        changes |= _tuned(bundle)
    publish_bundle(bundle, repository, name, changes, load, keep, access, reset=reset, change_classes=change_classes)


def publish_bundle(
    bundle: Path,
    repository: str,
    name: str | None,
    changes: Mapping[str, Any],
    load: str | None,
    keep: int,
    access: "ServerAccess",
    *,
    reset: bool = False,
    change_classes: bool = False,
) -> None:
    """Publish, put into service if a server is given, and say so.

    The model is run as it is now, or with ``reset`` as a new one, but for ``changes``, by `ServingSettings`' fields.
    """
    from semia import serving

    settings = _settings(bundle, repository, name, changes, reset=reset)
    how: dict[str, Any] = {"name": name, "settings": settings, "change_classes": change_classes}
    folder, began = Path(repository), time.monotonic()
    if serving.is_object_store(repository):
        stored = serving.ObjectRepository(repository).publish(bundle, **how)
        _say_published(stored.name, stored.version, stored.url, began)
        _warn(stored, repository)
        if load is not None:
            version = serving.load_model(load, stored.name, access=access)
            text = f"{load} now serves {stored.name} version {version}"
            print_info(text, "model_loaded", model=stored.name, version=version)
    elif load is None:
        published = serving.publish(bundle, folder, **how)
        _say_published(published.name, published.version, published.folder, began)
        print_info("next: semia serve")
    else:
        with interruptible():  # a version that was not yet seen to draw is taken back
            update = serving.publish_and_load(bundle, folder, load, keep=keep, access=access, **how)
        published = update.published
        _say_published(published.name, published.version, published.folder, began, f"; {load} serves it", url=load)
        if update.pruned:
            print_info(f"deleted: {format_versions(update.pruned)}", "pruned", versions=update.pruned)


def _settings(
    bundle: Path, repository: str, name: str | None, changes: Mapping[str, Any], *, reset: bool
) -> "ServingSettings":
    from semia.serving import ObjectRepository, ServingSettings, is_object_store, present_settings
    from semia.serving.repository.layout import read_bundle_card

    served_as = read_bundle_card(bundle, name).name
    if reset:
        present = ServingSettings()
    elif is_object_store(repository):
        present = ObjectRepository(repository).present_settings(served_as)
    else:
        present = present_settings(Path(repository), served_as)
    if changes.keys() & {"threads", "accelerator"}:
        present = dataclasses.replace(present, reason=None)  # what was measured was something else
    settings = dataclasses.replace(present, **changes)
    if settings != ServingSettings():
        print_info(f"{served_as} runs with {settings}", "settings", model=served_as, settings=str(settings))
    return settings


def _say_published(name: str, version: int, place: Path | str, began: float, more: str = "", **fields: object) -> None:
    what = f"published: {place} (model {name}, version {version}){more}"
    outcome = {"model": name, "version": version, "path": place, "duration_s": time.monotonic() - began}
    print_info(what, "published", **outcome, **fields)


def _warn(stored: "StoredVersion", url: str) -> None:
    """Say what other publishers did to the version, or could have done."""
    if stored.serving != stored.version:
        print_error(f"version {stored.serving} was published meanwhile, and is the one that is served", "overtaken")
    if not stored.exclusive:
        text = f"warning: {url} keeps no conditions: see to it that only one publishes at a time"
        print_error(text, "unconditional_store", logging.WARNING)


def _tuned(bundle: Path) -> dict[str, Any]:
    """What tuning chooses, for the CPU and by `ServingSettings`' fields."""
    from semia.bench.tuning import count_turns, tune

    print_info(f"tuning {bundle} with a Triton of its own; whatever else runs here disturbs it")
    with interruptible(), StepDisplay("turn", count_turns()) as display:
        settings = tune(bundle, print_info, display.update)
    return {field: getattr(settings, field) for field in ("instances", "threads", "batching", "accelerator", "reason")}

"""``semia export`` and ``semia train-and-export``."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from semia.cli import publishing
from semia.cli.console import say, stdout
from semia.cli.options import (
    BUNDLES_FOLDER,
    DEFAULT_REPOSITORY,
    AnotherMachineOption,
    BundleOption,
    MinPsnrOption,
    NameOption,
    PrecisionOption,
    RepositoryOption,
    RunArgument,
    RunOption,
    SceneArgument,
    ThreadsOption,
    ToleranceOption,
)
from semia.cli.training import (
    DeviceOption,
    IterationsOption,
    MinutesOption,
    OverwriteOption,
    PresetOption,
    ResizeOption,
    ResumeOption,
    RotateOption,
    SeedOption,
    ShiftOption,
    TrainRequest,
    VggOption,
    how_far,
)
from semia.files import check_model_name

if TYPE_CHECKING:
    from export.precision import PrecisionRequest
    from semia.model_card import PrecisionCheck, TargetParity

DEFAULT_TOLERANCE = 2


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("export")(export)
    app.command("train-and-export")(train_and_export)


def export(
    run: RunArgument,
    bundle: BundleOption = None,
    name: NameOption = None,
    tolerance: ToleranceOption = DEFAULT_TOLERANCE,
    precision: PrecisionOption = "fp32",
    min_psnr: MinPsnrOption = None,
    for_another_machine: AnotherMachineOption = False,
) -> None:
    """Turn a trained generator into a bundle: model.onnx and its model card.

    ONNX Runtime draws every target of the scene beside PyTorch; an export that differs too much fails and leaves
    nothing behind. So does a lower precision whose pictures are too far from fp32's, or that is not faster.
    """
    from export.precision import PrecisionRequest

    request = PrecisionRequest(precision, min_psnr, for_another_machine)
    folder = export_run_folder(run, bundle, name, tolerance, request)
    say(f"next: semia publish {folder}")


def export_run_folder(
    run_path: Path, bundle: Path | None, name: str | None, tolerance: int, precision: "PrecisionRequest"
) -> Path:
    """Export with everything shown; returns the bundle's folder."""
    from export.bundle import export_run
    from training.run_folder import RunFolder

    run = RunFolder.open(run_path)
    model_name = check_model_name(name or run.config.scene_name)
    folder = bundle or BUNDLES_FOLDER / model_name
    if not run.finished:
        say(f"{run_path} is not trained to its end: {how_far(run)}")
    say(f"exporting {model_name} and comparing ONNX Runtime with PyTorch")
    card = export_run(
        run,
        folder,
        name=model_name,
        tolerance=tolerance,
        precision=precision,
        on_parity=_show_parity,
        on_precision=functools.partial(_show_precision, precision.precision),
    )
    say(f"exported: {folder}, {card.canvas}, {card.parameters:,} parameters, {card.precision}")
    if card.quality is None:
        say(f"its card has no quality figures: `semia evaluate {run_path}`, then export again")
    return folder


def _show_parity(parity: "tuple[TargetParity, ...]") -> None:
    say("difference from PyTorch, in levels of 255:")
    table = Table(box=None)
    table.add_column("target")
    table.add_column("max", justify="right")
    table.add_column("mean", justify="right")
    for entry in parity:
        table.add_row(entry.target, str(entry.max_abs), f"{entry.mean_abs:.4f}")
    stdout.print(table)


def _show_precision(precision: str, check: "PrecisionCheck") -> None:
    from export.precision import in_words

    say(f"{precision}, likeness to fp32's pictures; at least {check.min_psnr:g} dB is wanted:")
    table = Table(box=None)
    table.add_column("target")
    table.add_column("PSNR, dB", justify="right")
    for target, psnr in check.psnr.items():
        table.add_row(target, f"{psnr:.1f}")
    stdout.print(table)
    say(f"{precision} on {check.measured_on}: {in_words(check)}")


def train_and_export(
    scene: SceneArgument,
    preset: PresetOption = "default",
    run: RunOption = None,
    bundle: BundleOption = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    name: NameOption = None,
    resize: ResizeOption = None,
    iterations: IterationsOption = None,
    minutes: MinutesOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    vgg_weights: VggOption = None,
    rotate: RotateOption = None,
    shift: ShiftOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    tolerance: ToleranceOption = DEFAULT_TOLERANCE,
    precision: PrecisionOption = "fp32",
    min_psnr: MinPsnrOption = None,
    for_another_machine: AnotherMachineOption = False,
    threads: ThreadsOption = None,
) -> None:
    """Train, export and publish: from a scene folder to a model that Triton can serve."""
    from export.precision import PrecisionRequest
    from training.settings import PRESETS

    request = PrecisionRequest(precision, min_psnr, for_another_machine)
    if preset in PRESETS:
        request.check(PRESETS[preset].generator)  # before minutes of training; the run is checked again
    trained = TrainRequest(
        scene=scene,
        preset=preset,
        run=run,
        name=name,
        resize=resize,
        iterations=iterations,
        minutes=minutes,
        seed=seed,
        device=device,
        vgg_weights=vgg_weights,
        rotate=rotate,
        shift=shift,
        resume=resume,
        overwrite=overwrite,
    ).carry_out()
    folder = export_run_folder(trained.path, bundle, name, tolerance, request)
    publishing.publish_bundle(folder, repository, name=None, threads=threads)
    say("next: semia serve")

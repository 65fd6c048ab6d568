"""``semia export`` and ``semia train-and-export``."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from semia.cli import publish
from semia.cli.console import PhaseDisplay, figures_table, log_event, print_info, print_view
from semia.cli.options import (
    AnyRepositoryOption,
    Count,
    LoadOption,
    MinPsnrOption,
    OptionalCount,
    RunArgument,
    ToleranceOption,
    connection_options,
)
from semia.cli.train import describe_progress, make_generator, training_options
from semia.core import BUNDLES_FOLDER, DEFAULT_KEEP, DEFAULT_TOLERANCE, REPOSITORY_FOLDER
from semia.core.files import check_model_name, default_run
from semia.core.model_card import Precision

if TYPE_CHECKING:
    from semia.core.access import ServerAccess
    from semia.core.model_card import GraphReport, PrecisionCheck, TargetParity
    from semia.export.precision.request import PrecisionRequest
    from semia.export.tensorrt.build import BatchProfile
    from semia.training.run_folder import RunFolder


def export(
    run: RunArgument,
    bundle: Path | None = None,
    name: str | None = None,
    tolerance: ToleranceOption = DEFAULT_TOLERANCE,
    format_: Annotated[Literal["onnx", "tensorrt"], typer.Option("--format")] = "onnx",
    batches: Annotated[str, typer.Option(metavar="OPT:MAX")] = "1:8",
    precision: Precision = "fp32",
    min_psnr: MinPsnrOption = None,
    for_another_machine: bool = False,
) -> None:
    """Turn a run's generator into a bundle: model.onnx and its model card.

    ONNX Runtime draws every target of the scene beside PyTorch; an export that differs too much fails and leaves
    nothing behind. So does a lower precision whose pictures are too far from fp32's, or that is not faster. A TensorRT
    engine is compared with ONNX Runtime in the same way.

    Options:
        format_: onnx runs everywhere; tensorrt adds an engine for the GPU of this machine, which needs TensorRT.
        batches: Batch a TensorRT engine is tuned for, and the largest it takes.
    """
    from semia.export.precision.request import PrecisionRequest

    request = PrecisionRequest(precision, min_psnr, for_another_machine)
    profile = None
    if format_ == "tensorrt":
        from semia.export.tensorrt.build import BatchProfile, this_machine

        # Whatever stands in the way is said before the export, not after it.
        profile = BatchProfile.parse(batches)
        this_machine()
    from semia.training.run_folder import RunFolder

    opened = RunFolder.open(run)
    folder = export_run_folder(opened, bundle, name, tolerance, request)
    if profile is not None:
        _add_engine(opened, folder, profile, tolerance)
    print_info(f"next: semia publish {folder}")


def export_run_folder(
    run: "RunFolder", bundle: Path | None, name: str | None, tolerance: int, precision: "PrecisionRequest"
) -> Path:
    """Export with everything shown; returns the bundle's folder."""
    from semia.export.exporter import export_run
    from semia.training.settings import TrainingSettings

    model_name = check_model_name(name or run.config.scene_name)
    folder = bundle or BUNDLES_FOLDER / model_name
    settings = run.config.settings
    if isinstance(settings, TrainingSettings) and not run.finished:
        print_info(f"{run.path} is not trained to its end: {describe_progress(run, settings)}")
    began = time.monotonic()
    tell = functools.partial(print_info, model=model_name)
    tell(f"exporting {model_name} and comparing ONNX Runtime with PyTorch", "export_started", run=run.path)
    card = export_run(
        run,
        folder,
        name=model_name,
        tolerance=tolerance,
        precision=precision,
        on_parity=_show_parity,
        on_precision=functools.partial(_show_precision, precision.precision),
    ).card
    if card.graph is not None:
        _show_graph(card.graph)
    what = f"exported: {folder}, {card.canvas}, {card.parameters:,} parameters, {card.precision}"
    outcome = {"path": folder, "parameters": card.parameters, "precision": card.precision}
    tell(what, "export_finished", **outcome, duration_s=time.monotonic() - began)
    if card.quality is None:
        print_info(f"its card has no quality figures: `semia evaluate {run.path}`, then export again")
    return folder


def _add_engine(run: "RunFolder", bundle: Path, batches: "BatchProfile", tolerance: int) -> None:
    from semia.export.exporter import parity_targets
    from semia.export.tensorrt.engine import add_engine

    began = time.monotonic()
    print_info("building a TensorRT engine for this machine; this takes minutes", "engine_started")
    with PhaseDisplay("TensorRT") as display:
        show_parity = functools.partial(_show_parity, reference="ONNX Runtime")
        targets = parity_targets(run.scene)
        engine = add_engine(bundle, targets, display, batches=batches, tolerance=tolerance, on_parity=show_parity)
    what = f"built: TensorRT {engine.tensorrt}, {engine.gpu}, {engine.precision}, batches up to {engine.max_batch}"
    print_info(what, "engine_built", duration_s=time.monotonic() - began)


def _show_parity(parity: "tuple[TargetParity, ...]", reference: str = "PyTorch") -> None:
    print_info(f"difference from {reference}, in levels of 255:")
    table = figures_table("target", "max", "mean")
    for entry in parity:
        table.add_row(entry.target, str(entry.max_abs), f"{entry.mean_abs:.4f}")
        log_event("parity_measured", reference=reference, **dataclasses.asdict(entry))
    print_view(table)


def _show_graph(graph: "GraphReport") -> None:
    nodes, flops = sum(graph.operators.values()), sum(stage.flops for stage in graph.stages)
    what = f"the graph at batch 1: {nodes} nodes, {flops / 1e9:.2f} GFLOP"
    print_info(what, "graph_written", nodes=nodes, flops=flops)
    table = figures_table("stage", "nodes", "GFLOP")
    for stage in graph.stages:
        table.add_row(stage.name, str(stage.nodes), f"{stage.flops / 1e9:.3f}")
    print_view(table)


def _show_precision(precision: str, check: "PrecisionCheck") -> None:
    from semia.export.precision.request import describe_speed

    print_info(f"{precision}, PSNR to fp32's pictures; at least {check.min_psnr:g} dB is wanted:")
    table = figures_table("target", "PSNR, dB")
    for target, psnr in check.psnr.items():
        table.add_row(target, f"{psnr:.1f}")
        log_event("precision_measured", precision=precision, target=target, psnr_db=psnr)
    print_view(table)
    if check.last_stage_in_float32:
        print_info(
            "the decoder's last stage stays in float32: with it in eight bits, too, pictures were below the limit"
        )
    print_info(f"{precision} on {check.measured_on}: {describe_speed(check)}")


@training_options
@connection_options
def train_and_export(
    scene: Annotated[Path, typer.Argument(metavar="SCENE")],
    run: Path | None = None,
    bundle: Path | None = None,
    repository: AnyRepositoryOption = str(REPOSITORY_FOLDER),
    tolerance: ToleranceOption = DEFAULT_TOLERANCE,
    precision: Precision = "fp32",
    min_psnr: MinPsnrOption = None,
    for_another_machine: bool = False,
    threads: OptionalCount = None,
    load: LoadOption = None,
    keep: Count = DEFAULT_KEEP,
    change_classes: bool = False,
    *,
    training: dict[str, Any],
    access: "ServerAccess",
) -> None:
    """Make a generator, export it and publish it: from a scene folder to a model that Triton can serve.

    Options:
        scene: Scene folder: img.*, label.*, and target layouts in cond/.
        run: Run folder to make or resume; by default runs/NAME.
    """
    from semia.export.precision.request import PrecisionRequest
    from semia.training.request import TrainRequest
    from semia.training.settings import PRESETS

    request = PrecisionRequest(precision, min_psnr, for_another_machine)
    name = training["name"]
    if (settings := PRESETS.get(training["preset"])) is not None:
        request.check(settings.generator)  # before minutes of work; the run is checked again
    run_folder = make_generator(TrainRequest(scene=scene, run=run or default_run(scene, name), **training))
    folder = export_run_folder(run_folder, bundle, name, tolerance, request)
    changes = {} if threads is None else {"threads": threads}
    publish.publish_bundle(folder, repository, None, changes, load, keep, access, change_classes=change_classes)

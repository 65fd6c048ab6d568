"""From a run folder to a bundle: model.onnx and its card, checked, whole or absent."""

import datetime
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnxruntime
import torch

from semia.core import BUNDLES_FOLDER, DEFAULT_TOLERANCE, __version__
from semia.core.files import check_model_name, sha256_of_file
from semia.core.labels import ClassIds
from semia.core.model_card import CARD_FILE, MODEL_FILE, Bundle, ModelCard, Precision, PrecisionCheck, TargetParity
from semia.core.staging import staged_directory
from semia.export.checks import check_parity, measure_parity
from semia.export.errors import BundleTakenError, ExportError
from semia.export.graph_report import report_graph
from semia.export.graphs import synthesis_graph
from semia.export.graphs.published import SynthesisGraph
from semia.export.onnx_writer import write_onnx
from semia.export.precision.request import PrecisionRequest, lower_precision
from semia.training.evaluation_file import quality_of_run
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings

FP32 = PrecisionRequest()


def export(
    run: str | os.PathLike[str],
    bundle: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    tolerance: int = DEFAULT_TOLERANCE,
    precision: Precision = "fp32",
    min_psnr: float | None = None,
    for_another_machine: bool = False,
) -> Bundle:
    """Export a run's generator as ``model.onnx`` with a model card, checked against PyTorch.

    Example::

        bundle = semia.export("runs/pagoda")
        print(bundle.path, bundle.card.parameters)

    Args:
        run: run folder that has its generator.
        bundle: folder to make, or bundle to replace; by default ``bundles/NAME``.
        name: the served model's; by default the scene's.
        tolerance: the largest allowed difference of any pixel from PyTorch, of 255.
        precision: what the graph computes in: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        min_psnr: the least PSNR of a lower precision's pictures to fp32's, in dB; by default the precision's own.
        for_another_machine: the bundle will run elsewhere: a lower precision need not be faster here.

    Returns:
        The bundle. It can be passed where a path can.

    Raises:
        InputError: if there is no such run, or its generator has no such precision.
        ExportError: if a check fails or the disk refuses; nothing is left behind then.
    """
    opened = run if isinstance(run, RunFolder) else RunFolder.open(Path(run))
    model_name = check_model_name(name or opened.config.scene_name)
    return export_run(
        opened,
        BUNDLES_FOLDER / model_name if bundle is None else Path(bundle),
        name=model_name,
        tolerance=tolerance,
        precision=PrecisionRequest(precision, min_psnr, for_another_machine),
    )


def export_run(
    run: RunFolder,
    bundle: Path,
    *,
    name: str | None = None,
    tolerance: int = DEFAULT_TOLERANCE,
    precision: PrecisionRequest = FP32,
    on_parity: Callable[[tuple[TargetParity, ...]], None] = lambda _: None,
    on_precision: Callable[[PrecisionCheck], None] = lambda _: None,
) -> Bundle:
    """Export a run's generator into a bundle folder, replacing the bundle that was there; options are as for `export`.

    The card carries the figures of the run's latest evaluation, if that was of this very generator. The fp32 graph is
    made and judged first; ``on_parity`` and ``on_precision`` are told the figures before they are judged.

    Raises:
        RunError: if the run has no generator.
        EvaluationError: if the run has an evaluation that cannot be read.
        ParityError: if the fp32 graph is beyond the tolerance.
        BundleTakenError: if there is something else at ``bundle``.
        PrecisionError: if a lower precision does not exist, costs too much or is not faster.
        ExportError: if exporting fails or the disk refuses. No failure leaves anything under ``bundle``.
    """
    model_name = check_model_name(name or run.config.scene_name)
    precision.check(run.config.settings.generator)
    if bundle.exists() and not Bundle.is_bundle(bundle) and not (bundle.is_dir() and not any(bundle.iterdir())):
        raise BundleTakenError(f"{bundle} exists and is not a bundle: choose another with --bundle")
    scene, settings = run.scene, run.config.settings
    loaded = run.load_generator()
    quality = quality_of_run(run.path, run.generator_sha256())
    try:
        with staged_directory(bundle) as staging:
            model = staging / MODEL_FILE
            graph, targets = synthesis_graph(*loaded), parity_targets(scene)
            write_onnx(graph, model)
            parity = measure_parity(model, loaded.renderer(), targets)
            on_parity(parity)
            check_parity(parity, tolerance)
            precision_check = None
            if precision.precision != "fp32":
                # `precision.check` lets no other generator through.
                assert isinstance(graph, SynthesisGraph)
                assert isinstance(settings, TrainingSettings)
                augmentation = settings.augmentation
                precision_check = lower_precision(model, graph, precision, targets, augmentation, on_precision)
            card = ModelCard(
                name=model_name,
                generator=settings.generator,
                preset=settings.preset,
                canvas_height=scene.canvas.height,
                canvas_width=scene.canvas.width,
                palette=scene.palette.hex_codes,
                class_names=scene.palette.names,
                parameters=loaded.parameters,
                iterations=run.iterations_done if run.config.counts_iterations else None,
                precision=precision.precision,
                opset=precision.opset,
                generator_sha256=run.generator_sha256(),
                graph_sha256=sha256_of_file(model),
                versions={
                    "semia": __version__,
                    "torch": torch.__version__,
                    "onnx": onnx.__version__,
                    "onnxruntime": onnxruntime.__version__,
                },
                parity_tolerance=tolerance,
                parity=parity,
                exported_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                quality=quality,
                graph=report_graph(model),
                precision_check=precision_check,
            )
            card.write(staging / CARD_FILE)
    except OSError as error:
        raise ExportError(f"cannot write the bundle {bundle}: {error}") from error
    return Bundle(bundle, card)


def parity_targets(scene: Scene) -> Mapping[str, ClassIds]:
    """What a graph is checked on: the source layout, the same mirrored, and every target of the scene."""
    return {"source": scene.labels, "mirrored": scene.labels[:, ::-1].copy(), **scene.targets}

"""From a bundle to a bundle with an engine: model.plan beside model.onnx, checked against it."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from semia.core.bundle import Bundle
from semia.core.files import sha256_of_file
from semia.core.labels import ClassIds
from semia.core.model_card import CARD_FILE, MODEL_FILE, PLAN_FILE, EngineCard, TargetParity
from semia.core.staging import staged_directory
from semia.export.checks import check_parity, compare, measure_parity
from semia.export.errors import ExportError
from semia.export.session import OnnxRenderer
from semia.export.tensorrt.build import BatchProfile, BuildObserver, build_plan, tensorrt_model, this_machine
from semia.export.tensorrt.renderer import EngineRenderer

DEFAULT_BATCHES = BatchProfile()


def add_engine(
    bundle: Path,
    targets: Mapping[str, ClassIds],
    observer: BuildObserver,
    *,
    batches: BatchProfile = DEFAULT_BATCHES,
    tolerance: int | None = None,
    on_parity: Callable[[tuple[TargetParity, ...]], None] = lambda _: None,
) -> EngineCard:
    """Build a TensorRT engine of a bundle's graph, for this machine; the bundle then serves from it.

    The engine's pictures are compared with ONNX Runtime's, one by one and as the largest batch.

    Args:
        bundle: folder of ``model.onnx`` and its card.
        targets: layouts ``uint8[H, W]`` on the canvas by name: what the engine is checked on.
        observer: told how the build goes.
        batches: how many label maps at once the engine must take.
        tolerance: the largest allowed difference of any pixel, in 8-bit levels; None: the bundle's own.
        on_parity: told the figures before they are judged.

    Raises:
        InputError: if the bundle is none, or its graph is not the one of its card.
        TensorRTMissingError: if this machine cannot build engines.
        EngineError: if TensorRT refuses the graph or fails.
        ParityError: if the engine is beyond the tolerance.
        ExportError: if the disk refuses. No failure changes the bundle.
    """
    machine = this_machine()
    card = Bundle.open(bundle).card
    allowed = card.parity_tolerance if tolerance is None else tolerance
    try:
        with staged_directory(bundle) as staging:
            shutil.copytree(bundle, staging, dirs_exist_ok=True)
            plan = staging / PLAN_FILE
            graph = tensorrt_model(bundle / MODEL_FILE)
            plan.write_bytes(build_plan(graph, card.canvas, batches, machine.timing_cache, observer))
            render = EngineRenderer(plan)
            parity = measure_parity(bundle / MODEL_FILE, render, targets)
            parity += (_batch_parity(bundle / MODEL_FILE, render, targets, batches.largest),)
            on_parity(parity)
            check_parity(parity, allowed, "ONNX Runtime")
            engine = EngineCard(
                **dataclasses.asdict(machine),
                precision=card.precision,
                opt_batch=batches.tuned_for,
                max_batch=batches.largest,
                plan_sha256=sha256_of_file(plan),
                parity=parity,
            )
            dataclasses.replace(card, engine=engine).write(staging / CARD_FILE)
    except OSError as error:
        raise ExportError(f"cannot add an engine to {bundle}: {error}") from error
    return engine


def _batch_parity(model: Path, render: EngineRenderer, targets: Mapping[str, ClassIds], largest: int) -> TargetParity:
    """The largest batch at once: an engine computes it in other ways than one label map."""
    layouts = np.resize(np.stack(list(targets.values())), (largest, *next(iter(targets.values())).shape))
    alone = OnnxRenderer(model)
    return compare(f"batch of {largest}", render.render_batch(layouts), np.stack([alone(ids) for ids in layouts]))

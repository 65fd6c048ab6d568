"""Preparing the copying generator: what it copies by is worked out from the photograph; nothing is learnt."""

import time
from collections.abc import Callable

import torch

from semia.core.images import write_rgb
from semia.training.base import Renderer, WorkProgress, sample_sheet
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.errors import RunError, writing
from semia.training.machine import one_thread, prepare_process
from semia.training.run_folder import PREPARE_ANEW, SAMPLES_FOLDER, RunFolder

SHEET_FILE = "prepared.png"


class _StoppedError(Exception):
    """Whoever asked for a preparation wants it no more."""


def prepare_run(
    run: RunFolder,
    device: torch.device,
    *,
    on_progress: Callable[[WorkProgress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Prepare a run's generator, if it has none yet; returns whether it has one now.

    The generator file appears at the end, whole. Whatever ends the preparation before leaves nothing to go on from.
    Two preparations of one scene on one machine write the same bytes.

    Args:
        run: a run folder of the copying generator.
        device: where the generator lives.
        on_progress: called when a stage begins, and for news within it.
        should_stop: asked before each of these calls; a true answer ends the preparation.

    Raises:
        RunError: if the run's generator is not one that is prepared.
        TrainingError: if the disk refuses.
    """
    settings = run.config.settings
    if not isinstance(settings, CopyingSettings):
        raise RunError(f"{run.path}: the {settings.generator} generator is trained, not prepared")
    if run.finished:
        return True
    began = time.monotonic()
    prepare_process()
    tensors = run.scene_tensors(device)
    generator = CopyingGenerator(settings, tensors).to(device)

    def on_stage(stage: str, share: float) -> None:
        if should_stop():
            raise _StoppedError
        on_progress(WorkProgress(share, time.monotonic() - began, stage=stage))

    try:
        generator.prepare(on_stage)
        seconds = time.monotonic() - began
        on_stage("sample sheet", 1.0)
    except _StoppedError:
        return False
    with one_thread():
        sheet = sample_sheet(run.scene, Renderer(generator, tensors))
    with writing("keep a sample sheet", PREPARE_ANEW):
        write_rgb(run.path / SAMPLES_FOLDER / SHEET_FILE, sheet)
    run.save_prepared(generator, seconds)
    return True

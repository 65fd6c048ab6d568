"""The published generator's training loop, resumable: iterations, checkpoints, and what people and tools watch."""

import contextlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from semia.core.files import write_text
from semia.core.images import RGB, write_rgb
from semia.training.base import Renderer, WorkProgress, sample_sheet
from semia.training.errors import DivergedError, RunError, SettingsError, writing
from semia.training.examples import paint_examples, paint_plates
from semia.training.machine import prepare_process
from semia.training.published.losses import FeatureMaps, rgb_features
from semia.training.published.trainer import AlternatingTrainer
from semia.training.run_folder import METRICS_FILE, SAMPLES_FOLDER, Checkpoint, RunFolder
from semia.training.scene import Scene
from semia.training.settings import TrainingSettings

EXAMPLES_SHARE = 0.1  # of a run's minutes, where it has any: what painting examples takes at most, but for the first

RESUME = "--resume goes on from the last checkpoint"


def device_from_name(name: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``; a SettingsError for other names, or where CUDA is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: PyTorch sees no CUDA device here; use --device cpu or auto")
    if name not in ("cpu", "cuda"):
        raise SettingsError(f"--device must be auto, cpu or cuda, not {name!r}")
    return torch.device(name)


def check_same_run(run: RunFolder, scene: Scene, config_settings: object, seed: int, patch_features: str) -> None:
    """Refuse to go on with a run that was begun otherwise; seed and patch features count where a run is trained.

    Raises:
        RunError: naming what differs.
    """
    begun = run.scene
    differences = {
        "photograph": begun.image.tobytes() != scene.image.tobytes(),
        "label map": begun.labels.tobytes() != scene.labels.tobytes(),
        "palette": begun.palette != scene.palette,
        "settings": run.config.settings != config_settings,
    }
    if isinstance(run.config.settings, TrainingSettings):
        differences["seed"] = run.config.seed != seed
        differences["patch features"] = run.config.patch_features != patch_features
    differing = [name for name, differs in differences.items() if differs]
    if differing:
        raise RunError(
            f"{run.path} was begun with another {' and '.join(differing)}: "
            "resume it as it was begun, choose another --run, or --overwrite it"
        )


def train(
    run: RunFolder,
    device: torch.device,
    *,
    patch_features: FeatureMaps = rgb_features,
    on_progress: Callable[[WorkProgress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_interval_s: float = 30.0,
    sheet_interval_s: float = 60.0,
) -> bool:
    """Train a run from its last checkpoint on; returns whether it is finished.

    Where iterations are counted, the weights depend on the run's config and the machine alone, not on where the
    run was interrupted or how often it wrote checkpoints. Where minutes are, they depend on the clock too: the
    schedules follow the time gone, in which preparing, checkpoints and sheets count; pauses do not, nor does work
    that a kill destroyed. Such a run ends after the first iteration that reaches its time; it makes at least one.

    Patch coherence compares ``patch_features``, for which the run's config must have been made. After every iteration
    ``on_progress`` is told and ``should_stop`` asked: a true answer writes a checkpoint and ends. So it is after every
    example that is painted beforehand, where there is nothing to keep yet.

    Raises:
        RunError: if the checkpoint is broken, the run was imported, or its generator is not one that is trained.
        DivergedError: if a loss is no longer finite; the last checkpoint stays.
        TrainingError: if the disk refuses.
    """
    run.check_not_imported()
    settings = run.config.settings
    if not isinstance(settings, TrainingSettings):
        raise RunError(f"{run.path}: the {settings.generator} generator is prepared, not trained")
    if run.finished:
        return True
    began = time.monotonic()
    prepare_process()
    tensors = run.scene_tensors(device)
    checkpoint = run.load_checkpoint(device)
    first, seconds_before = (0, 0.0) if checkpoint is None else (checkpoint.iteration, checkpoint.seconds)

    def seconds_done() -> float:
        return seconds_before + time.monotonic() - began

    stopped = False

    def painted_enough(count: int) -> bool:
        nonlocal stopped
        stage = f"painting example {count} of {settings.examples}"
        on_progress(WorkProgress(settings.progress(first, seconds_done()), seconds_done(), first, stage=stage))
        stopped = should_stop()
        in_time = settings.minutes is None or time.monotonic() - began < EXAMPLES_SHARE * 60 * settings.minutes
        return stopped or not in_time

    examples, plates = [], None
    if settings.examples or settings.class_plates:
        plates = paint_plates(run.scene, tensors)
        examples = paint_examples(plates, settings.examples, run.config.seed, tensors, enough=painted_enough)
    if stopped:
        return False
    trainer = AlternatingTrainer(
        tensors, settings, run.config.seed, patch_features, examples, plates if settings.class_plates else None
    )
    if checkpoint is not None:
        try:
            trainer.load_state_dict(checkpoint.trainer)
        except (RuntimeError, KeyError, ValueError) as error:
            raise RunError(
                f"cannot resume {run.path}: another version of semia, with other networks, began it; "
                "start anew with --overwrite"
            ) from error
    with RunLog(run.path, first) as log:
        saved_at = shown_at = time.monotonic()
        for iteration in itertools.count(first):
            seconds_at_start = seconds_done()
            losses = trainer.iterate(iteration, settings.progress(iteration, seconds_at_start))
            _check_finite(losses, iteration)
            done, seconds = iteration + 1, seconds_done()
            log.record(iteration, losses, seconds - seconds_at_start)
            share = settings.progress(done, seconds)
            on_progress(WorkProgress(share, seconds, done, losses))
            last = share >= 1 or should_stop()
            save = last or time.monotonic() - saved_at >= checkpoint_interval_s
            show = last or time.monotonic() - shown_at >= sheet_interval_s
            if save or show:
                generator = trainer.finished_generator()
            if save:
                run.save_checkpoint(Checkpoint(done, seconds, trainer.state_dict()), generator)
                saved_at = time.monotonic()
            if show:
                log.sheet(done, sample_sheet(run.scene, Renderer(generator, tensors)))
                shown_at = time.monotonic()
            if last:
                break
    return run.finished


def _check_finite(losses: dict[str, float], iteration: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged at iteration {iteration}: the {name} loss is {value}; try another --seed"
            )


class RunLog(contextlib.AbstractContextManager["RunLog"]):
    """Appends to a run's records, from an iteration on: later lines of a killed run are dropped."""

    def __init__(self, run: Path, first_iteration: int) -> None:
        self._run = run
        metrics = run / METRICS_FILE
        if metrics.is_file():
            write_text(metrics, "".join(_lines_before(metrics, first_iteration)))
        self._metrics = metrics.open("a", encoding="utf-8")
        self._events = SummaryWriter(log_dir=str(run), purge_step=first_iteration)

    def __exit__(self, *exception: object) -> None:
        for each in (self._metrics, self._events):
            with contextlib.suppress(OSError):  # what a full disk refused has been said; it refuses it again
                each.close()

    def record(self, iteration: int, losses: dict[str, float], seconds: float) -> None:
        """Note one iteration's losses and duration; a TrainingError if the disk refuses."""
        line = {"iteration": iteration, "seconds": round(seconds, 3)}
        line |= {name: round(value, 6) for name, value in losses.items()}
        with writing(f"record losses in {self._run}", RESUME):
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
            for name, value in losses.items():
                self._events.add_scalar(f"loss/{name}", value, iteration)  # raises what an earlier one met

    def sheet(self, iteration: int, sheet: RGB) -> Path:
        """Keep a sample sheet made after ``iteration`` iterations; its path, or a TrainingError if the disk refuses."""
        path = self._run / SAMPLES_FOLDER / f"{iteration:06d}.png"
        with writing("keep a sample sheet", RESUME):
            write_rgb(path, sheet)
            self._events.add_image("samples", sheet, iteration, dataformats="HWC")
        return path


def _lines_before(metrics: Path, first_iteration: int) -> list[str]:
    """The whole lines of ``metrics.jsonl`` from before an iteration; a torn last line is dropped."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("}\n")]
    return [line for line in whole if json.loads(line)["iteration"] < first_iteration]


def training_seconds(run: Path) -> float | None:
    """How long a run's iterations took, all together; None where it has no records."""
    metrics = run / METRICS_FILE
    if not metrics.is_file():
        return None
    lines = _lines_before(metrics, sys.maxsize)
    return float(sum(json.loads(line)["seconds"] for line in lines)) if lines else None

"""``semia train`` and ``semia render``: generators from scenes, pictures from generators, no server."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semia.cli.console import (
    ClockDisplay,
    StageDisplay,
    StepDisplay,
    format_duration,
    format_losses,
    interruptible,
    log_event,
    print_info,
    stop_on_signals,
)
from semia.cli.options import OptionalCount, RunArgument, option_group
from semia.cli.train_many import EngineName, train_many
from semia.core import RUNS_FOLDER
from semia.core.errors import InputError, SemiaError
from semia.core.files import default_run

if TYPE_CHECKING:
    from semia.training.base import WorkProgress
    from semia.training.request import OpenedRun, TrainRequest
    from semia.training.run_folder import RunFolder
    from semia.training.settings import TrainingSettings


def _training(
    *,
    preset: str = "default",
    name: str | None = None,
    resize: float | None = None,
    iterations: OptionalCount = None,
    minutes: Annotated[float | None, typer.Option(min=0.01)] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: str = "auto",
    vgg_weights: Path | None = None,
    rotate: Annotated[float | None, typer.Option(min=0, max=180)] = None,
    shift: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """The fields of a `TrainRequest` but for its paths.

    Options:
        preset: [bold]default[/]: the generator that copies from the photograph; it is prepared, not trained, which
            takes what it takes.
            [bold]paper[/]: the published generator and hyperparameters, 2,500 iterations, many hours on two cores.
            [bold]paper-short[/]: the published generator, half as wide, 220 iterations of at most 224 pixels.
        resize: Scale the scene by this factor; by default only the paper-short preset scales, to 224 pixels.
        iterations: Published presets: another number of iterations; the schedules scale with it.
        minutes: Published presets: train for so many minutes, whatever the machine, in place of a number of
            iterations; the schedules scale with it.
        seed: Published presets: seed of everything random; preparing draws nothing at random.
        device: auto, cpu or cuda.
        vgg_weights: Published presets: VGG19 state dict in torchvision's layout, for patch coherence on its features
            instead of on pixels.
        rotate: Published presets: augment by rotations up to so many degrees either way; by default the preset's.
        shift: Published presets: augment by shifts up to this share of each side; by default the preset's.
        resume: Go on with the run in the run folder, if there is one; leave a finished one as it is.
        overwrite: Start anew where a run folder exists.
    """
    return locals()


training_options = option_group("training", _training)
"""Gives a command that takes ``training``, a dictionary, the options that are fields of a `TrainRequest`."""


@training_options
def train(
    scenes: Annotated[list[Path], typer.Argument(metavar="SCENE...")],
    run: Path | None = None,
    jobs: OptionalCount = None,
    engine: EngineName = "local",
    address: str | None = None,
    cpus: OptionalCount = None,
    *,
    training: dict[str, Any],
) -> None:
    """Make a generator for one photograph, or for each of several.

    The copying generator (preset default) is prepared, not trained, which takes what it takes; after Ctrl-C the same
    command begins again. It writes a run folder: the generator and a sample sheet.

    The published one (presets paper and paper-short) is trained. Its run folder also has checkpoints and losses
    (metrics.jsonl, TensorBoard); Ctrl-C keeps what was learnt, and the same command with --resume goes on.

    Of several scenes, one that fails does not stop the others, --minutes are each one's own, and --resume skips
    those that are done. With --engine ray, scenes and run folders must be on storage that all nodes see under
    the same paths, and semia must be installed on every node.

    Options:
        scenes: Scene folders: each has img.*, label.*, and target layouts in cond/.
        run: Run folder to make or resume, by default runs/NAME; for several scenes the folder of their run folders, by
            default runs.
        jobs: Scenes worked on side by side, each with its share of the cores and in a process of its own; by default
            one after another, on a cluster as many as it has room for.
        engine: local: on this machine. ray: as tasks of a Ray cluster.
        address: With --engine ray. auto (the default): the cluster this machine is a node of; HOST:PORT: of its head
            (Ray takes that cluster's token from RAY_AUTH_TOKEN); local: a Ray for this call, on this machine alone.
        cpus: With --engine ray: CPU cores that each scene takes; by default 2.
    """
    if engine == "local" and (address is not None or cpus is not None):
        raise InputError("--address and --cpus are for --engine ray: add it, or drop them")
    if len(scenes) > 1 and training["name"] is not None:
        raise InputError("--name is for one scene; several are named after their folders")
    from semia.training.request import TrainRequest

    if len(scenes) == 1:
        runs = [run or default_run(scenes[0], training["name"])]
    else:
        runs = [default_run(scene, runs=run or RUNS_FOLDER) for scene in scenes]
    requests = [TrainRequest(scene=scene, run=each, **training) for scene, each in zip(scenes, runs, strict=True)]
    if len(requests) > 1 or engine == "ray":
        train_many(requests, engine, jobs, address, cpus)
    else:
        print_info(f"next: semia export {make_generator(requests[0]).path}")


def make_generator(request: "TrainRequest") -> "RunFolder":
    """Prepare or train to the end, with everything shown; raises SystemExit(130) if a signal stopped it before."""
    from semia.training.copying.settings import CopyingSettings

    with request.open_run() as opened:
        run, scene, settings = opened.run, opened.scene, opened.run.config.settings
        canvas, targets = str(scene.canvas), len(scene.targets)
        log_event("scene_loaded", scene=scene.name, path=request.scene, canvas=canvas, targets=targets)
        for note in scene.notes:
            print_info(note)
        if isinstance(settings, CopyingSettings):
            _prepare(opened, request.preset)
        else:
            _train(opened, settings, request.preset)
    return run


def _prepare(opened: "OpenedRun", preset: str) -> None:
    run, scene, device = opened.run, opened.scene, opened.device.type
    tell = functools.partial(print_info, scene=scene.name, run=run.path)
    if run.finished:
        tell(f"{run.path} is already prepared", "generator_prepared", duration_s=0.0)
        return
    what = f"preparing {_in_words(opened)}; preset {preset}, on {device}"
    tell(what, "preparation_started", preset=preset, device=device)
    began = time.monotonic()
    try:
        with interruptible(), StageDisplay("preparing", "preparation_progress", scene=scene.name) as display:
            opened.carry_out(lambda progress: display.update(progress.stage, progress.share), lambda: False)
    except KeyboardInterrupt:
        what = f"stopped; the same command prepares {scene.name} anew"
        tell(what, "preparation_stopped", duration_s=time.monotonic() - began)
        raise SystemExit(130) from None
    what = f"prepared: {run.path}, in {format_duration(run.preparation_s or 0.0)}"
    tell(what, "generator_prepared", duration_s=run.preparation_s)


def _train(opened: "OpenedRun", settings: "TrainingSettings", preset: str) -> None:
    run, scene, device = opened.run, opened.scene, opened.device.type
    tell = functools.partial(print_info, scene=scene.name, run=run.path)
    done = run.iterations_done
    if run.finished:
        what = f"{run.path} is already trained for {done} iterations"
        tell(what, "training_finished", iteration=done, duration_s=0.0)
        return
    minutes, iterations = settings.minutes, None if settings.minutes else settings.iterations
    length = f"{settings.iterations} iterations" if minutes is None else f"{minutes:g} minutes"
    what = f"training {_in_words(opened)}; preset {preset}, {length}, on {device}"
    asked = {"preset": preset, "iterations": iterations, "minutes": minutes}
    tell(what, "training_started", **asked, iteration=done, device=device)
    print_info(f"watch: {run.path}/samples, or tensorboard --logdir {run.path}")
    began = time.monotonic()
    with stop_on_signals() as stop, _display(scene.name, settings) as show:
        finished = opened.carry_out(show, stop)
    outcome = {"iteration": run.iterations_done, "duration_s": time.monotonic() - began}
    if not finished:
        tell(f"stopped after {describe_progress(run, settings)}; --resume goes on", "training_stopped", **outcome)
        raise SystemExit(130)
    tell(f"trained: {run.path}, {run.iterations_done} iterations", "training_finished", **outcome)


def _in_words(opened: "OpenedRun") -> str:
    scene = opened.scene
    classes = f"{len(scene.palette)} classes ({scene.palette})"
    return f"{scene.name}: {scene.canvas}, {classes}, {len(scene.targets)} targets"


def describe_progress(run: "RunFolder", settings: "TrainingSettings") -> str:
    """How much of its training by these settings a run has behind it, in words."""
    if settings.minutes is None:
        return f"{run.iterations_done} of {settings.iterations} iterations"
    done, whole = format_duration(run.seconds_done), format_duration(60 * settings.minutes)
    return f"{run.iterations_done} iterations in {done} of {whole} minutes"


@contextmanager
def _display(scene: str, settings: "TrainingSettings") -> "Iterator[Callable[[WorkProgress], None]]":
    """Show the progress of training: yields the callback."""
    event = "training_progress"
    if settings.minutes is None:
        with StepDisplay("iteration", settings.iterations, event, scene=scene) as steps:
            yield (
                lambda at: (
                    steps.prepare(at.stage)
                    if at.stage
                    else steps.update(at.iteration, format_losses(at.losses), **_fields(at))
                )
            )
    else:
        with ClockDisplay("iteration", 60 * settings.minutes, event, scene=scene) as clock:
            yield lambda at: clock.update(at.iteration, at.seconds, at.stage or format_losses(at.losses), **_fields(at))


def _fields(progress: "WorkProgress") -> dict[str, object]:
    return {"iteration": progress.iteration, "losses": progress.losses}


def render(run: RunArgument, targets: Annotated[Path, typer.Option()], out: Path | None = None) -> None:
    """Run a generator on a folder of label maps, in PyTorch, without any server.

    Options:
        targets: Folder of label maps.
        out: Folder for the pictures; by default RUN/pictures.
    """
    from semia.core.images import list_images, output_files, write_rgb
    from semia.core.labels import read_class_ids
    from semia.training.run_folder import RunFolder

    opened = RunFolder.open(run)
    scene, draw = opened.scene, opened.load_generator().renderer()
    folder = out or run / "pictures"
    files = output_files(list_images(targets), folder)
    failures: list[str] = []
    with StepDisplay("rendering", len(files)) as display:
        for done, (path, output) in enumerate(files.items(), start=1):
            try:
                write_rgb(output, draw(read_class_ids(path, scene.palette, scene.canvas)))
            except SemiaError as error:
                failures.append(str(error))
            display.update(done, path.name)
    report_failures(failures, len(files))
    print_info(f"{len(files)} pictures in {folder}")


def report_failures(failures: Iterable[str], total: int) -> None:
    """Say what became of a batch in which some items failed.

    Raises:
        InputError: naming the first failure, if there was any.
    """
    messages = list(failures)
    if len(messages) == 1:
        raise InputError(messages[0])
    if messages:
        raise InputError(f"{len(messages)} of {total} label maps failed; the first: {messages[0]}")

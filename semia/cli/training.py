"""``semia train`` and ``semia render``: generators from scenes, pictures from generators, no server."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.console import ClockDisplay, StepDisplay, clock, say, stop_on_signals
from semia.cli.options import RUNS_FOLDER, NameOption, RunArgument, RunOption, SceneArgument
from semia.errors import InputError, SemiaError

if TYPE_CHECKING:
    from training.run_folder import RunFolder
    from training.settings import TrainingSettings
    from training.train import Progress

PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        help="[bold]default[/]: the generator that copies from the photograph, three minutes on any machine. "
        "[bold]quick[/]: the same in one minute. "
        "[bold]paper[/]: the published generator and hyperparameters, 2,500 iterations, many hours on two cores. "
        "[bold]paper-short[/]: the published generator, half as wide, 220 iterations of at most 224 pixels.",
    ),
]
ResizeOption = Annotated[
    float | None,
    typer.Option(
        "--resize", help="Scale the scene by this factor; by default only the paper-short preset scales, to 224 pixels."
    ),
]
IterationsOption = Annotated[
    int | None, typer.Option("--iterations", min=1, help="Another number of iterations; the schedules scale with it.")
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        min=0.01,
        help="Train for so many minutes, whatever the machine, in place of a number of iterations; "
        "the schedules scale with it.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
VggOption = Annotated[
    Path | None,
    typer.Option(
        "--vgg-weights",
        help="VGG19 state dict in torchvision's layout: patch coherence on its features instead of on pixels.",
    ),
]
RotateOption = Annotated[
    float | None,
    typer.Option(
        "--rotate",
        min=0,
        max=180,
        help="Augment by rotations up to so many degrees either way; by default the preset's.",
    ),
]
ShiftOption = Annotated[
    float | None,
    typer.Option(
        "--shift", min=0, max=1, help="Augment by shifts up to this share of each side; by default the preset's."
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in the run folder, if there is one.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start anew where a run folder exists.")]


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("train")(train)
    app.command("render")(render)


def train(
    scene: SceneArgument,
    preset: PresetOption = "default",
    run: RunOption = None,
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
) -> None:
    """Train a generator for one photograph.

    Writes a run folder: checkpoints, losses (metrics.jsonl, TensorBoard), sample sheets. Ctrl-C keeps what was
    learnt; the same command with --resume goes on.
    """
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
    say(f"next: semia export {trained.path}")


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What `semia train` and `semia train-and-export` were asked for; the fields are their options."""

    scene: Path
    preset: str
    run: Path | None
    name: str | None
    resize: float | None
    iterations: int | None
    minutes: float | None
    seed: int
    device: str
    vgg_weights: Path | None
    rotate: float | None
    shift: float | None
    resume: bool
    overwrite: bool

    def settings(self) -> "TrainingSettings":
        """The preset with the options' changes."""
        from training.settings import PRESETS

        if self.preset not in PRESETS:
            raise InputError(f"no preset {self.preset!r}: choose {', '.join(PRESETS)}")
        if self.iterations is not None and self.minutes is not None:
            raise InputError("--iterations and --minutes both say when training ends: give one of them")
        settings = PRESETS[self.preset]
        if self.iterations is not None:
            settings = settings.with_iterations(self.iterations)
        if self.minutes is not None:
            settings = replace(settings, minutes=self.minutes)
        if self.vgg_weights is not None and settings.generator != "published":
            raise InputError(f"--vgg-weights: the {settings.generator} generator compares no VGG19 features; drop it")
        asked = {"max_rotation_degrees": self.rotate, "max_shift": self.shift}
        changes = {field: value for field, value in asked.items() if value is not None}
        return replace(settings, augmentation=replace(settings.augmentation, **changes))

    def carry_out(self) -> "RunFolder":
        """Train to the end; raises SystemExit(130) if a signal stopped it before."""
        from training.run_folder import RunFolder
        from training.scene import load_scene
        from training.train import check_same_run, device_from_name, train
        from training.vgg import patch_features_from

        settings = self.settings()
        device = device_from_name(self.device)
        patch_features, features_id = patch_features_from(self.vgg_weights, device)
        scene = load_scene(self.scene, name=self.name, resize=self.resize, max_side=settings.max_side)
        path = self.run or RUNS_FOLDER / scene.name

        if RunFolder.is_run(path) and not self.overwrite:
            run = RunFolder.open(path)
            run.check_trainable()
            if not self.resume:
                state = "a finished run" if run.finished else f"a run stopped after {run.iterations_done} iterations"
                raise InputError(f"{path} holds {state}: add --resume to go on with it, or --overwrite to start anew")
            check_same_run(run, scene, settings, self.seed, features_id)
            if run.finished:
                say(f"{path} is already trained for {run.iterations_done} iterations")
                return run
        else:
            run = RunFolder.create(path, scene, settings, self.seed, features_id)
        say(
            f"training {scene.name}: {scene.canvas}, {len(scene.palette)} classes ({scene.palette}), "
            f"{len(scene.targets)} targets; preset {self.preset}, {_length(settings)}, on {device.type}"
        )
        say(f"watch: {path}/samples, or tensorboard --logdir {path}")

        with stop_on_signals() as stop, _display(settings) as show:
            finished = train(run, device, patch_features=patch_features, on_progress=show, should_stop=stop)
        if not finished:
            say(f"stopped after {how_far(run)}; --resume goes on")
            raise SystemExit(130)
        say(f"trained: {path}, {run.iterations_done} iterations")
        return run


def _length(settings: "TrainingSettings") -> str:
    return f"{settings.iterations} iterations" if settings.minutes is None else f"{settings.minutes:g} minutes"


def how_far(run: "RunFolder") -> str:
    """How much of its training a run has behind it, in words."""
    settings = run.config.settings
    if settings.minutes is None:
        return f"{run.iterations_done} of {settings.iterations} iterations"
    return f"{run.iterations_done} iterations in {clock(run.seconds_done)} of {clock(60 * settings.minutes)} minutes"


@contextmanager
def _display(settings: "TrainingSettings") -> "Iterator[Callable[[Progress], None]]":
    """Show how training gets on: yields what takes its news."""

    def losses(news: "Progress") -> str:
        return "  ".join(f"{loss} {value:.3f}" for loss, value in news.losses.items())

    if settings.minutes is None:
        with StepDisplay("iteration", settings.iterations) as steps:
            yield lambda news: steps.update(news.iteration, losses(news))
    else:
        with ClockDisplay("iteration", 60 * settings.minutes) as minutes:
            yield lambda news: minutes.update(news.iteration, news.seconds, losses(news))


def render(
    run: RunArgument,
    targets: Annotated[Path, typer.Option("--targets", help="Folder of label maps.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the pictures; by default RUN/pictures.")] = None,
) -> None:
    """Run a trained generator on a folder of label maps, in PyTorch, without any server."""
    import torch

    from semia.images import list_images, write_rgb
    from semia.labels import read_class_ids
    from training.rendering import Renderer
    from training.run_folder import RunFolder
    from training.tensors import SceneTensors

    trained = RunFolder.open(run)
    scene = trained.load_scene()
    tensors = SceneTensors.from_scene(scene, trained.config.settings.multiple, torch.device("cpu"))
    draw = Renderer(trained.load_generator(tensors), tensors)
    folder = out or run / "pictures"
    paths = list_images(targets)
    failures: list[str] = []
    with StepDisplay("rendering", len(paths)) as display:
        for done, path in enumerate(paths, start=1):
            try:
                write_rgb(folder / f"{path.stem}.png", draw(read_class_ids(path, scene.palette, scene.canvas)))
            except SemiaError as error:
                failures.append(str(error))
            display.update(done, path.name)
    report_failures(failures, len(paths))
    say(f"{len(paths)} pictures in {folder}")


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

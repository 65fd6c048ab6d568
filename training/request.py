"""What a person asks for when they have a generator made: a preset with changes, on a scene, into a run folder."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semia.core.errors import InputError
from semia.core.files import UNFINISHED
from semia.core.staging import held
from semia.training.base import WorkProgress
from semia.training.copying.preparation import prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.loop import check_same_run, device_from_name, train
from semia.training.published.losses import FeatureMaps
from semia.training.published.pretrained import patch_features_from
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene, load_scene
from semia.training.settings import PRESETS, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One generator asked for; the fields are the options of ``semia train``."""

    scene: Path  # scene folder
    run: Path  # run folder to make or go on with
    name: str | None = None  # the scene's; None makes it from the folder's
    preset: str = "default"
    resize: float | None = None
    iterations: int | None = None
    minutes: float | None = None
    seed: int = 0  # of training; the copying generator draws nothing at random
    device: str = "auto"
    vgg_weights: Path | None = None
    rotate: float | None = None
    shift: float | None = None
    resume: bool = False
    overwrite: bool = False

    def settings(self) -> TrainingSettings | CopyingSettings:
        """The preset with the options' changes.

        Raises:
            InputError: if there is no such preset, or options contradict each other or it.
        """
        if self.preset not in PRESETS:
            raise InputError(f"no preset {self.preset!r}: choose {', '.join(PRESETS)}")
        settings = PRESETS[self.preset]
        if isinstance(settings, CopyingSettings):
            self._check_nothing_is_trained()
            return settings
        if self.iterations is not None and self.minutes is not None:
            raise InputError("--iterations and --minutes both say when training ends: give one of them")
        if self.iterations is not None:
            settings = settings.with_iterations(self.iterations)
        if self.minutes is not None:
            settings = replace(settings, minutes=self.minutes)
        asked = {"max_rotation_degrees": self.rotate, "max_shift": self.shift}
        changes = {field: value for field, value in asked.items() if value is not None}
        return replace(settings, augmentation=replace(settings.augmentation, **changes))

    @property
    def is_prepared(self) -> bool:
        """Whether the generator asked for is prepared, not trained; errors are those of `settings`."""
        return isinstance(self.settings(), CopyingSettings)

    def _check_nothing_is_trained(self) -> None:
        options = {
            "--iterations": self.iterations,
            "--minutes": self.minutes,
            "--rotate": self.rotate,
            "--shift": self.shift,
            "--vgg-weights": self.vgg_weights,
        }
        given = [option for option, value in options.items() if value is not None]
        if given:
            trained = [name for name, settings in PRESETS.items() if isinstance(settings, TrainingSettings)]
            raise InputError(
                f"preset {self.preset} is prepared, not trained: drop {', '.join(given)}, "
                f"or choose --preset {' or '.join(trained)}"
            )

    @contextlib.contextmanager
    def open_run(self) -> "Iterator[OpenedRun]":
        """Read the scene, and begin its run or open the one to go on with; hold it against others until the block ends.

        A run of the copying generator that holds none yet has nothing to go on with: it begins anew.

        Raises:
            InputError: if an option, the scene or the run folder is at fault; a run folder that was there stays.
            DirectoryInUseError: if another process holds the run folder.
        """
        settings = self.settings()
        device = device_from_name(self.device)
        patch_features, features_id = patch_features_from(self.vgg_weights, device)
        scene = load_scene(self.scene, name=self.name, resize=self.resize, max_side=settings.max_side)
        with held(self.run):
            for unfinished in [*self.run.rglob(UNFINISHED)]:
                unfinished.unlink(missing_ok=True)  # of a process that was killed: the folder is held
            run, scene = self._run(scene, settings, features_id)
            yield OpenedRun(run, scene, device, patch_features)

    def _run(
        self, scene: Scene, settings: TrainingSettings | CopyingSettings, features_id: str
    ) -> tuple[RunFolder, Scene]:
        """The run, begun or opened, and the scene with class ids as the run has them."""
        if RunFolder.is_run(self.run) and not self.overwrite:
            run = RunFolder.open(self.run)
            run.check_not_imported()
            if run.finished or isinstance(run.config.settings, TrainingSettings):
                if not self.resume:
                    raise InputError(f"{self.run} holds {_state(run)}, or --overwrite to start anew")
                scene = scene.in_order_of(run.config.palette)
                check_same_run(run, scene, settings, self.seed, features_id)
                return run, scene
        return RunFolder.create(self.run, scene, settings, self.seed, features_id), scene


def _state(run: RunFolder) -> str:
    """What a run folder holds, and what --resume makes of it."""
    if isinstance(run.config.settings, CopyingSettings):
        return "a prepared generator: add --resume to keep it"
    state = "a finished run" if run.finished else f"a run stopped after {run.iterations_done} iterations"
    return f"{state}: add --resume to go on with it"


@dataclass(frozen=True)
class OpenedRun:
    """A run with what training or preparing it needs; finished ones stay as is."""

    run: RunFolder
    scene: Scene
    device: torch.device
    patch_features: FeatureMaps  # for training alone

    def carry_out(self, on_progress: Callable[[WorkProgress], None], should_stop: Callable[[], bool]) -> bool:
        """Train or prepare to the end, or until stopped; returns whether it is finished.

        Either argument is called after every iteration, and when a stage begins or has news.

        Raises:
            TrainingError: if training diverges or the disk refuses.
        """
        settings = self.run.config.settings
        if isinstance(settings, CopyingSettings):
            return prepare_run(self.run, self.device, on_progress=on_progress, should_stop=should_stop)
        return train(
            self.run,
            self.device,
            patch_features=self.patch_features,
            on_progress=on_progress,
            should_stop=should_stop,
        )

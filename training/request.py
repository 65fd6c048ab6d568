"""What a person asks for when they have a scene trained: a preset with changes, on a scene, into a run folder."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semia.errors import InputError
from training.patch_coherence import FeatureMaps
from training.run_folder import RunFolder
from training.scene import Scene, load_scene
from training.settings import PRESETS, TrainingSettings
from training.train import check_same_run, device_from_name
from training.vgg import patch_features_from


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One training asked for; the fields are the options of ``semia train``."""

    scene: Path  # scene folder
    run: Path  # run folder to make or go on with
    name: str | None = None  # the scene's; None makes it from the folder's
    preset: str = "default"
    resize: float | None = None
    iterations: int | None = None
    minutes: float | None = None
    seed: int = 0
    device: str = "auto"
    vgg_weights: Path | None = None
    rotate: float | None = None
    shift: float | None = None
    resume: bool = False
    overwrite: bool = False

    def settings(self) -> TrainingSettings:
        """The preset with the options' changes.

        Raises:
            InputError: if there is no such preset, or options contradict each other or it.
        """
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

    def open_run(self) -> "OpenedRun":
        """Read the scene, and begin its run or open the one to go on with.

        Raises:
            InputError: if an option, the scene or the run folder is at fault; a run folder that was there stays.
        """
        settings = self.settings()
        device = device_from_name(self.device)
        patch_features, features_id = patch_features_from(self.vgg_weights, device)
        scene = load_scene(self.scene, name=self.name, resize=self.resize, max_side=settings.max_side)
        if RunFolder.is_run(self.run) and not self.overwrite:
            run = RunFolder.open(self.run)
            run.check_trainable()
            if not self.resume:
                state = "a finished run" if run.finished else f"a run stopped after {run.iterations_done} iterations"
                raise InputError(
                    f"{self.run} holds {state}: add --resume to go on with it, or --overwrite to start anew"
                )
            check_same_run(run, scene, settings, self.seed, features_id)
        else:
            run = RunFolder.create(self.run, scene, settings, self.seed, features_id)
        return OpenedRun(run, scene, device, patch_features)


@dataclass(frozen=True)
class OpenedRun:
    """A run that can be trained, with what training needs; `training.train.train` makes nothing of a finished one."""

    run: RunFolder
    scene: Scene
    device: torch.device
    patch_features: FeatureMaps

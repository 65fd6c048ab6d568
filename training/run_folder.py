"""A run folder: a generator and all that made it; training that was killed goes on from it.

RUN/config.json              scene, settings, seed, versions; written once, before the first step
RUN/scene/                   the scene as it was taken, a scene folder of its own
RUN/generator.safetensors    the generator, to render, export and serve

The published generator is trained, which adds:

RUN/last.pt                  networks and optimizers, to go on from
RUN/metrics.jsonl            one line of losses an iteration
RUN/events.out.tfevents.*    the same for TensorBoard
RUN/samples/NNNNNN.png       contact sheets made on the way

The copying generator is prepared, which adds:

RUN/prepared.json            how long that took
RUN/samples/prepared.png     a contact sheet

It is whole or not there; without it, preparing begins anew. An imported run adds nothing.
"""

import dataclasses
import functools
import io
import json
import os
import pickle
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch

from semia.core import __version__
from semia.core.errors import InputError
from semia.core.files import sha256_of_file, write_bytes, write_text
from semia.core.palette import Palette
from semia.core.staging import staged_directory
from semia.training.base import Renderer, SceneGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.errors import RunError, SettingsError, writing
from semia.training.published.generator import Generator
from semia.training.scene import Scene, load_scene, save_scene
from semia.training.settings import TrainingSettings, settings_from_dict
from semia.training.tensors import SceneTensors

CONFIG_FILE = "config.json"
SCENE_FOLDER = "scene"
CHECKPOINT_FILE = "last.pt"
GENERATOR_FILE = "generator.safetensors"
METRICS_FILE = "metrics.jsonl"
PREPARED_FILE = "prepared.json"
SAMPLES_FOLDER = "samples"
PREPARE_ANEW = "the same command prepares it anew"  # what to do where the disk refuses a prepared generator
CPU = torch.device("cpu")
FORMAT = 1
"""Raised when a run folder's meaning changes."""


@dataclass(frozen=True)
class Imported:
    """Where an imported generator came from; how it was trained is not known."""

    checkpoint: str  # file name
    sha256: str  # of the file
    generator_width: int
    depth: int


@dataclass(frozen=True)
class RunConfig:
    """What was asked for.

    Two trained runs of counted iterations with equal configs on one machine compute the same weights.
    """

    scene_name: str
    palette: Palette
    settings: TrainingSettings | CopyingSettings
    versions: dict[str, str]
    seed: int = 0  # of training; nothing random is in a preparation
    patch_features: str = "rgb"  # in training: "rgb", or the SHA-256 of a VGG19 weights file
    imported: Imported | None = None  # None for a generator that was made here

    @classmethod
    def of_import(cls, scene_name: str, palette: Palette, imported: Imported, versions: dict[str, str]) -> "RunConfig":
        """The config of an imported run: no seed and no patches of ours had a part in it."""
        # What the network must be built with; the training's numbers in it mean nothing.
        settings = TrainingSettings("imported", generator_width=imported.generator_width, depth=imported.depth)
        return cls(scene_name, palette, settings, versions, imported=imported)

    @property
    def counts_iterations(self) -> bool:
        """Whether it is known for how many iterations its generator was trained."""
        return self.imported is None and isinstance(self.settings, TrainingSettings)

    def to_json(self) -> str:
        """The config as indented JSON; training's fields are left out where no training is known."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "scene": self.scene_name,
            "palette": list(self.palette.hex_codes),
            "class_names": list(self.palette.names),
            "versions": self.versions,
        }
        if self.imported is not None:
            content["imported"] = dataclasses.asdict(self.imported)
        else:
            content["settings"] = self.settings.to_dict()
            if isinstance(self.settings, TrainingSettings):
                content["seed"] = self.seed
                content["patch_features"] = self.patch_features
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """The inverse of `to_json`; raises ValueError, KeyError, TypeError or InputError for anything else."""
        content: dict[str, Any] = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, while this version reads format {FORMAT}")
        palette = Palette.from_hex(content["palette"], content["class_names"])
        if "imported" in content:
            return cls.of_import(content["scene"], palette, Imported(**content["imported"]), content["versions"])
        config = cls(content["scene"], palette, settings_from_dict(content["settings"]), content["versions"])
        if isinstance(config.settings, CopyingSettings):
            return config
        return dataclasses.replace(config, seed=content["seed"], patch_features=content["patch_features"])


@dataclass(frozen=True)
class Checkpoint:
    """What a killed run goes on from; ``last.pt`` is this, as a dictionary."""

    iteration: int  # iterations done
    seconds: float  # of training they took, preparations, checkpoints and sheets included
    trainer: dict[str, Any]  # as `semia.training.published.trainer.AlternatingTrainer.state_dict` gives it


class LoadedGenerator(NamedTuple):
    """A run's generator, in inference mode, and its scene as tensors, on one device."""

    generator: SceneGenerator
    tensors: SceneTensors

    @property
    def parameters(self) -> int:
        """The number of the generator's parameters."""
        return sum(parameter.numel() for parameter in self.generator.parameters())

    def renderer(self) -> Renderer:
        """The generator as a function from class ids ``uint8[H, W]`` to pictures ``uint8[H, W, 3]``."""
        return Renderer(self.generator, self.tensors)


@dataclass(frozen=True)
class RunFolder(os.PathLike[str]):
    """A run folder on disk, opened. Functions that take a path take it too.

    What reads one of its files raises a RunError if that is broken.
    """

    path: Path
    config: RunConfig

    @classmethod
    def create(
        cls,
        path: Path,
        scene: Scene,
        settings: TrainingSettings | CopyingSettings,
        seed: int = 0,
        patch_features: str = "rgb",
    ) -> "RunFolder":
        """Begin a run: config and scene appear under ``path`` together; what was there is replaced.

        Seed and patch features are for training alone.

        Raises:
            RunError: if ``path`` is something other than a run folder, or cannot be written.
        """
        config = RunConfig(scene.name, scene.palette, settings, _versions(), seed, patch_features)
        return cls._write(path, scene, config)

    @classmethod
    def create_imported(cls, path: Path, scene: Scene, checkpoint: Path, generator: Generator) -> "RunFolder":
        """Make a run of a generator that was trained elsewhere, on this scene: all appears under ``path`` together.

        Of the checkpoint that the generator was read from, only name and hash are kept. A run folder that was there is
        replaced.

        Raises:
            RunError: if the scene is too small for the generator's depth, or ``path`` is something other than a run
                folder, or cannot be written.
        """
        if min(scene.canvas) <= 2**generator.depth:
            # The deepest features would be one pixel high or wide, with no neighbor to reflect and no variance.
            least = f"more than {2**generator.depth} pixels either way"
            raise RunError(
                f"scene {scene.name} is {scene.canvas}: a generator of depth {generator.depth} needs {least}"
            )
        imported = Imported(checkpoint.name, sha256_of_file(checkpoint), generator.width, generator.depth)
        config = RunConfig.of_import(scene.name, scene.palette, imported, _versions())
        return cls._write(path, scene, config, generator)

    @classmethod
    def _write(
        cls, path: Path, scene: Scene, config: RunConfig, generator: SceneGenerator | None = None
    ) -> "RunFolder":
        if path.exists() and not cls.is_run(path) and not (path.is_dir() and not any(path.iterdir())):
            raise RunError(f"{path} exists and is not a run folder: choose another with --run")
        with writing(f"create the run folder {path}", kind=RunError), staged_directory(path) as staging:
            write_text(staging / CONFIG_FILE, config.to_json())
            save_scene(scene, staging / SCENE_FOLDER)
            if generator is not None:
                write_bytes(staging / GENERATOR_FILE, _generator_bytes(generator, {}))
        run = cls(path, config)
        vars(run)["scene"] = scene  # as it would be read back
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open a run folder.

        Raises:
            RunError: if there is none, or its config cannot be read.
        """
        try:
            return cls(path, RunConfig.from_json((path / CONFIG_FILE).read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"no run folder at {path}: make one with `semia train SCENE --run {path}`") from None
        except SettingsError as error:
            raise RunError(f"{path}: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise RunError(f"cannot read {path / CONFIG_FILE}: {type(error).__name__}: {error}") from error

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether there is a run folder at a path."""
        return (path / CONFIG_FILE).is_file()

    def __fspath__(self) -> str:
        return str(self.path)

    @functools.cached_property
    def scene(self) -> Scene:
        """The scene as it was taken, read once."""
        return load_scene(self.path / SCENE_FOLDER, name=self.config.scene_name, palette=self.config.palette)

    def scene_tensors(self, device: torch.device = CPU) -> SceneTensors:
        """The scene on a device, padded as the run's settings want it."""
        return SceneTensors.from_scene(self.scene, self.config.settings.multiple, device)

    def save_prepared(self, generator: SceneGenerator, seconds: float) -> None:
        """Write a prepared generator, whole or not at all, and how many seconds preparing it took.

        Raises:
            TrainingError: if the disk refuses.
        """
        with writing(f"write the generator to {self.path}", PREPARE_ANEW):
            # The generator last: it is what makes the run finished.
            write_text(self.path / PREPARED_FILE, json.dumps({"seconds": round(seconds, 3)}) + "\n")
            write_bytes(self.path / GENERATOR_FILE, _generator_bytes(generator, {}))

    @property
    def preparation_s(self) -> float | None:
        """How many seconds preparing the generator took; None where none was prepared."""
        path = self.path / PREPARED_FILE
        if not self.finished or not path.is_file():
            return None
        try:
            return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"cannot read {path}: {type(error).__name__}: {error}") from error

    def save_checkpoint(self, checkpoint: Checkpoint, generator: SceneGenerator) -> None:
        """Write a checkpoint and the generator as it is then, each file whole or not at all.

        Raises:
            TrainingError: if the disk refuses; the previous checkpoint is still there.
        """
        buffer = io.BytesIO()
        torch.save(vars(checkpoint), buffer)
        header = {"iterations": str(checkpoint.iteration), "seconds": str(checkpoint.seconds)}
        with writing(f"write a checkpoint to {self.path}", "--resume goes on from the one before"):
            # The generator first: if only it is written before a kill, the run is finished or resumed all the same.
            write_bytes(self.path / GENERATOR_FILE, _generator_bytes(generator, header))
            write_bytes(self.path / CHECKPOINT_FILE, buffer.getvalue())

    def load_checkpoint(self, device: torch.device) -> Checkpoint | None:
        """What `save_checkpoint` wrote, its tensors on a device; None before the first one."""
        path = self.path / CHECKPOINT_FILE
        if not path.is_file():
            return None
        try:
            content = torch.load(path, map_location=device, weights_only=True)
            if set(content) != {field.name for field in dataclasses.fields(Checkpoint)}:
                raise ValueError("another version of semia wrote it")
            return Checkpoint(**content)
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RunError(f"cannot resume from {path}: {reason}; start anew with --overwrite") from error

    def check_not_imported(self) -> None:
        """Refuse to go on with an imported run: only the generator was published, not what it was trained against.

        Raises:
            RunError: if the run was imported.
        """
        if self.config.imported is not None:
            raise RunError(
                f"{self.path} holds an imported generator, without the networks to train it on: "
                "choose another --run, or --overwrite it"
            )

    @property
    def iterations_done(self) -> int:
        """How many iterations the saved generator was trained for; 0 before the first, or where none are counted."""
        return self._training_done()[0]

    @property
    def seconds_done(self) -> float:
        """How many seconds they took."""
        return self._training_done()[1]

    @property
    def finished(self) -> bool:
        """Whether all iterations are made, all minutes used up, or the generator is prepared, or was imported."""
        if isinstance(self.config.settings, CopyingSettings):
            return (self.path / GENERATOR_FILE).is_file()
        return self.config.imported is not None or self.config.settings.progress(*self._training_done()) >= 1

    def _training_done(self) -> tuple[int, float]:
        """Iterations and seconds that the saved generator was trained for."""
        path = self.path / GENERATOR_FILE
        if not self.config.counts_iterations or not path.is_file():
            return 0, 0.0
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
            # Files from before there were runs by the clock lack the seconds.
            return int(header["iterations"]), float(header.get("seconds", "0"))
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise RunError(f"{path} is not a generator of ours: {type(error).__name__}: {error}") from error

    def load_generator(self, device: torch.device = CPU) -> LoadedGenerator:
        """The generator that was made, in inference mode, on a device; a RunError if none was written yet."""
        path = self.path / GENERATOR_FILE
        if not path.is_file():
            raise RunError(f"{self.path} has no {GENERATOR_FILE} yet: make it with `semia train SCENE --resume`")
        tensors = self.scene_tensors(device)
        generator = new_generator(self.config.settings, tensors)
        try:
            generator.load_state_dict(safetensors.torch.load_file(path))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise RunError(f"{path} does not hold this generator: {str(error).splitlines()[0]}") from error
        return LoadedGenerator(generator.eval(), tensors)

    def generator_sha256(self) -> str:
        """Hexadecimal SHA-256 of the generator file."""
        return sha256_of_file(self.path / GENERATOR_FILE)


def _versions() -> dict[str, str]:
    return {"semia": __version__, "torch": torch.__version__, "python": platform.python_version()}


def _generator_bytes(generator: SceneGenerator, header: dict[str, str]) -> bytes:
    weights = {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}
    return safetensors.torch.save(weights, metadata=header)


# Imports inside the branches: to render with one generator, the other is not loaded.


def new_generator(settings: TrainingSettings | CopyingSettings, scene: SceneTensors) -> SceneGenerator:
    """A generator as the settings want it, neither trained nor prepared, on the scene's device."""
    generator: SceneGenerator
    if isinstance(settings, CopyingSettings):
        from semia.training.copying.generator import CopyingGenerator

        generator = CopyingGenerator(settings, scene)
    else:
        from semia.training.published.generator import Generator

        generator = Generator.from_settings(settings, scene)
    return generator.to(scene.image.device)

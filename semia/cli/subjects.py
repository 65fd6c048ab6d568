"""What `semia evaluate` and `semia compare` judge: a run in PyTorch, or an exported model in ONNX Runtime."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.images import RGB
from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.core.palette import Palette

if TYPE_CHECKING:
    from semia.evaluation.judge import Target

TIMED_DRAWS = 3
"""How often each target is drawn to tell the time of one."""

PUBLISHED_SIGN = "config.pbtxt"
"""What lies beside a version's folder in a model repository, and nowhere else."""


@dataclass(frozen=True)
class Subject:
    """A generator that can be asked for pictures."""

    path: Path  # run folder, bundle or published version
    name: str
    draw: Callable[[ClassIds], RGB]  # layout uint8[H, W] on the canvas to uint8[H, W, 3]
    palette: Palette
    canvas: Canvas
    parameters: int
    generator_sha256: str
    training_s: float | None  # None where it is not known, or nothing was trained
    preparation_s: float | None  # likewise
    scene: Path | None  # the scene it was made of; None: a model has no photograph
    card: ModelCard | None  # None: a run has none yet

    @property
    def published(self) -> bool:
        """Whether it is a version in a model repository, which nobody but `semia publish` writes to."""
        return (self.path.resolve().parent / PUBLISHED_SIGN).is_file()


def open_subject(path: Path) -> Subject:
    """Open a run folder, a bundle, or a version folder of a model repository.

    Raises:
        InputError: if it is none of them, or is broken.
    """
    if (path / CARD_FILE).is_file():
        return _open_model(path)
    from semia.training.run_folder import RunFolder

    if not RunFolder.is_run(path):
        raise InputError(
            f"{path} is neither a run folder nor a bundle nor a published version (such as model_repository/NAME/1)"
        )
    return _open_run(path)


def _open_model(path: Path) -> Subject:
    from semia.export.session import OnnxRenderer

    card = ModelCard.read(path / CARD_FILE)
    model = path / MODEL_FILE
    if not model.is_file() or sha256_of_file(model) != card.graph_sha256:
        raise InputError(f"{path} has no {MODEL_FILE} that its {CARD_FILE} describes: export it again")
    resolved = path.resolve()
    return Subject(
        path=path,
        # A version's folder is called by its number, which names nothing on its own.
        name=f"{resolved.parent.name}/{resolved.name}" if resolved.name.isdecimal() else resolved.name,
        draw=OnnxRenderer(model),
        palette=card.to_palette(),
        canvas=card.canvas,
        parameters=card.parameters,
        generator_sha256=card.generator_sha256,
        training_s=None,
        preparation_s=None,
        scene=None,
        card=card,
    )


def _open_run(path: Path) -> Subject:
    import torch

    from semia.training.base import Renderer
    from semia.training.run_folder import SCENE_FOLDER, RunFolder
    from semia.training.run_log import training_seconds
    from semia.training.tensors import SceneTensors

    run = RunFolder.open(path)
    scene = run.load_scene()
    tensors = SceneTensors.from_scene(scene, run.config.settings.multiple, torch.device("cpu"))
    generator = run.load_generator(tensors)
    return Subject(
        path=path,
        name=path.resolve().name,
        draw=Renderer(generator, tensors),
        palette=scene.palette,
        canvas=scene.canvas,
        parameters=sum(parameter.numel() for parameter in generator.parameters()),
        generator_sha256=run.generator_sha256(),
        training_s=training_seconds(path),
        preparation_s=run.preparation_s,
        scene=path / SCENE_FOLDER,
        card=None,
    )


def open_comparable(paths: Sequence[Path]) -> list[Subject]:
    """Open several generators of one scene, under names that tell them apart.

    Raises:
        InputError: if there are fewer than two, or they were made of different scenes.
    """
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError("name at least two runs or models, each once")
    subjects = [open_subject(path) for path in paths]
    first = subjects[0]
    for subject in subjects[1:]:
        if subject.palette.colours != first.palette.colours:
            raise InputError(
                f"{subject.path} has the classes {subject.palette}, {first.path} {first.palette}: "
                "compare generators of one scene"
            )
        if subject.canvas != first.canvas:
            raise InputError(
                f"{subject.path} draws {subject.canvas}, {first.path} {first.canvas}: "
                "compare generators of one size (made with the same --resize)"
            )
    _check_one_photograph([subject for subject in subjects if subject.scene is not None])
    names = [subject.name for subject in subjects]
    if len(set(names)) == len(names):
        return subjects
    return [replace(subject, name=str(subject.path)) for subject in subjects]


def _check_one_photograph(runs: Sequence[Subject]) -> None:
    from semia.training.scene import load_scene

    scenes = [load_scene(run.scene, name="scene", palette=run.palette) for run in runs if run.scene is not None]
    for run, scene in zip(runs, scenes, strict=True):
        if not np.array_equal(scene.image, scenes[0].image) or not np.array_equal(scene.labels, scenes[0].labels):
            raise InputError(
                f"{run.path} was made of another photograph or label map than {runs[0].path}: "
                "compare generators of one scene"
            )


def draw_and_time(subject: Subject, targets: "Sequence[Target]") -> tuple[Mapping[str, RGB], float]:
    """Every target's picture, by name, and the median milliseconds of drawing one."""
    pictures: dict[str, RGB] = {targets[0].name: subject.draw(targets[0].on_canvas)}  # the first call is never typical
    times_ms = []
    for target in targets:
        for _ in range(TIMED_DRAWS):
            began = time.perf_counter()
            pictures[target.name] = subject.draw(target.on_canvas)
            times_ms.append(1000 * (time.perf_counter() - began))
    return pictures, statistics.median(times_ms)

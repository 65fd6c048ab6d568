"""Generators opened to draw: a run in PyTorch, an exported model in ONNX Runtime."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semia.core.errors import InputError
from semia.core.images import RGB
from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import Bundle
from semia.core.palette import Palette

if TYPE_CHECKING:
    from semia.training.run_folder import RunFolder

TIMED_DRAWS = 3  # how often each target is drawn to tell the time of one
CONFIG_FILE = "config.pbtxt"  # what lies beside a version's folder in a model repository, and nowhere else


@dataclass(frozen=True)
class OpenedGenerator:
    """A generator that can be asked for pictures."""

    path: Path  # run folder, bundle or published version
    name: str
    draw: Callable[[ClassIds], RGB]  # class ids uint8[H, W] on the canvas to uint8[H, W, 3]
    palette: Palette
    canvas: Canvas
    parameters: int
    generator_sha256: str
    training_s: float | None = None  # None where it is not known, or nothing was trained
    preparation_s: float | None = None  # likewise
    scene: Path | None = None  # the scene it was made of; None: a model has no photograph
    bundle: Bundle | None = None  # None for a run

    @property
    def published(self) -> bool:
        """Whether it is a version in a model repository, which only `semia publish` writes to."""
        return (self.path.resolve().parent / CONFIG_FILE).is_file()


def open_generator(path: Path) -> OpenedGenerator:
    """Open a run folder, a bundle, or a version folder of a model repository.

    Raises:
        InputError: if it is none of them, or is broken.
    """
    return _open_model(path) if Bundle.is_bundle(path) else _open_run(path)


def open_run(path: Path) -> "RunFolder":
    """Open a run folder where a bundle or a version could have been, too.

    Raises:
        InputError: if it is none of them, or is broken.
    """
    from semia.training.run_folder import RunFolder

    if not RunFolder.is_run(path):
        raise InputError(
            f"{path} is neither a run folder nor a bundle nor a published version (such as model_repository/NAME/1)"
        )
    return RunFolder.open(path)


def _open_model(path: Path) -> OpenedGenerator:
    from semia.export.session import OnnxRenderer

    bundle, resolved = Bundle.open(path), path.resolve()
    return OpenedGenerator(
        path=path,
        # A version's folder is called by its number, which names nothing on its own.
        name=f"{resolved.parent.name}/{resolved.name}" if resolved.name.isdecimal() else resolved.name,
        draw=OnnxRenderer(bundle.graph),
        palette=bundle.card.to_palette(),
        canvas=bundle.card.canvas,
        parameters=bundle.card.parameters,
        generator_sha256=bundle.card.generator_sha256,
        bundle=bundle,
    )


def _open_run(path: Path) -> OpenedGenerator:
    run = open_run(path)
    from semia.training.loop import training_seconds
    from semia.training.run_folder import SCENE_FOLDER

    loaded = run.load_generator()
    return OpenedGenerator(
        path=path,
        name=path.resolve().name,
        draw=loaded.renderer(),
        palette=run.scene.palette,
        canvas=run.scene.canvas,
        parameters=loaded.parameters,
        generator_sha256=run.generator_sha256(),
        training_s=training_seconds(path),
        preparation_s=run.preparation_s,
        scene=path / SCENE_FOLDER,
    )


def open_comparable(paths: Sequence[Path]) -> list[OpenedGenerator]:
    """Open several generators of one scene, under names that tell them apart.

    Raises:
        InputError: if there are fewer than two, or they were made of different scenes.
    """
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError("name at least two runs or models, each once")
    generators = [open_generator(path) for path in paths]
    first = generators[0]
    for generator in generators[1:]:
        if generator.palette.colors != first.palette.colors:
            raise InputError(
                f"{generator.path} has the classes {generator.palette}, {first.path} {first.palette}: "
                "compare generators of one scene"
            )
        if generator.canvas != first.canvas:
            raise InputError(
                f"{generator.path} draws {generator.canvas}, {first.path} {first.canvas}: "
                "compare generators of one size (made with the same --resize)"
            )
    _check_one_photograph(generators)
    names = [generator.name for generator in generators]
    if len(set(names)) == len(names):
        return generators
    return [replace(generator, name=str(generator.path)) for generator in generators]


def _check_one_photograph(generators: Sequence[OpenedGenerator]) -> None:
    from semia.training.scene import load_scene

    runs = [
        (each.path, load_scene(each.scene, name="scene", palette=each.palette))
        for each in generators
        if each.scene is not None
    ]
    for path, scene in runs:
        first_path, first = runs[0]
        if not np.array_equal(scene.image, first.image) or not np.array_equal(scene.labels, first.labels):
            differ = f"{path} was made of another photograph or label map than {first_path}"
            raise InputError(f"{differ}: compare generators of one scene")


def draw_and_time(generator: OpenedGenerator, targets: Mapping[str, ClassIds]) -> tuple[Mapping[str, RGB], float]:
    """Every target's picture, by name, and the median milliseconds of drawing one.

    Targets, at least one, are class ids ``uint8[H, W]`` on the generator's canvas, by name.
    """
    generator.draw(next(iter(targets.values())))  # the first call is never typical
    pictures, times_ms = {}, []
    for name, ids in targets.items():
        for _ in range(TIMED_DRAWS):
            began = time.perf_counter()
            pictures[name] = generator.draw(ids)
            times_ms.append(1000 * (time.perf_counter() - began))
    return pictures, statistics.median(times_ms)

"""The functions of `semia`: from a scene folder to a published model. Each loads what it needs when it is called."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semia.core import DEFAULT_KEEP, DEFAULT_WIDTH, REPOSITORY_FOLDER
from semia.core.errors import InputError
from semia.core.files import default_run

if TYPE_CHECKING:
    from PIL import Image

    from semia.core.access import ServerAccess
    from semia.core.labels import Target
    from semia.evaluation.evaluate import EvaluatedGenerator
    from semia.serving import PublishedModel, ServingSettings
    from semia.training.base import WorkProgress
    from semia.training.run_folder import RunFolder

StrPath = str | os.PathLike[str]

OnProgress = Callable[[float, str], None]
"""Told the share of the work that is done, in [0, 1], and what was done last. What it raises ends the work."""


def _ignore(share: float, what: str) -> None:
    """Ignore progress."""


def train(
    scene: StrPath,
    run: StrPath | None = None,
    *,
    name: str | None = None,
    preset: str = "default",
    resize: float | None = None,
    iterations: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    vgg_weights: StrPath | None = None,
    rotate: float | None = None,
    shift: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress = _ignore,
    should_stop: Callable[[], bool] = lambda: False,
) -> "RunFolder":
    """Make a generator of one photograph.

    Example::

        run = semia.train("pagoda", on_progress=lambda share, what: print(f"{share:.0%} {what}"))

    Args:
        scene: folder of ``img.*``, ``label.*`` and, optionally, ``cond/*`` and ``classes.json``.
        run: run folder to make or go on with; by default ``runs/NAME``.
        name: the served model's; by default made from the scene folder's.
        preset: ``default`` prepares the copying generator; ``paper`` and ``paper-short`` train the published one.
        resize: factor for the scene's size.
        iterations: of training, for the published presets; by default the preset's.
        minutes: train for so long instead.
        seed: of training.
        device: ``auto``, ``cpu`` or ``cuda``.
        vgg_weights: VGG19 state dict in torchvision's layout, for patch coherence in training.
        rotate: degrees either way by which training augments; by default the preset's.
        shift: share of each side by which training augments; by default the preset's.
        resume: go on with the run that is there, if there is one.
        overwrite: replace the run that is there.
        on_progress: told the share that is done and the stage or losses.
        should_stop: asked after every iteration or stage; a true answer ends the work, and training keeps what it
            learnt.

    Returns:
        The run folder; ``finished`` tells whether it was stopped before its end. It can be passed where a path can.

    Raises:
        InputError: if the scene, an option or the run folder is at fault.
        TrainingError: if training diverges or the disk refuses.
    """
    from semia.training.request import TrainRequest

    request = TrainRequest(
        scene=Path(scene),
        run=default_run(Path(scene), name) if run is None else Path(run),
        name=name,
        preset=preset,
        resize=resize,
        iterations=iterations,
        minutes=minutes,
        seed=seed,
        device=device,
        vgg_weights=None if vgg_weights is None else Path(vgg_weights),
        rotate=rotate,
        shift=shift,
        resume=resume,
        overwrite=overwrite,
    )

    def tell(at: "WorkProgress") -> None:
        on_progress(at.share, at.stage or ", ".join(f"{name} {value:.3f}" for name, value in at.losses.items()))

    with request.open_run() as opened:
        opened.carry_out(tell, should_stop)
        return opened.run


def render(source: StrPath, targets: "Iterable[Target]", *, on_progress: OnProgress = _ignore) -> "list[Image.Image]":
    """A generator's pictures of targets, drawn in this process, without any server.

    Example::

        (picture,) = semia.render("runs/pagoda", ["layout.png"])

    Args:
        source: a run folder (PyTorch draws), a bundle, or a version of a model repository (ONNX Runtime draws).
        targets: label maps: paths, Pillow pictures, RGB ``uint8[H, W, 3]``, or class ids ``uint8[H, W]``.
        on_progress: told how many are drawn.

    Returns:
        RGB pictures in the order of the targets, at the size of the generator's canvas.

    Raises:
        InputError: if the source is none of these, or a target cannot be used.
    """
    from PIL import Image

    from semia.core.labels import class_ids_from_target
    from semia.evaluation.generators import open_generator

    generator, layouts = open_generator(Path(source)), [*targets]
    pictures = []
    for target in layouts:
        ids = class_ids_from_target(target, generator.palette, generator.canvas, generator.name)
        pictures.append(Image.fromarray(generator.draw(ids)))
        on_progress(len(pictures) / len(layouts), f"{len(pictures)} of {len(layouts)} pictures")
    return pictures


def evaluate(
    source: StrPath,
    *,
    scene: StrPath | None = None,
    targets: StrPath | None = None,
    width: int = DEFAULT_WIDTH,
    on_progress: OnProgress = _ignore,
) -> "EvaluatedGenerator":
    """How good a generator's pictures of its scene's targets are, in figures. Needs the extra ``evaluation``.

    Example::

        result = semia.evaluate("runs/pagoda")
        print(result.evaluation.mean.align, result.evaluation.targets["forest"].seams)

    Args:
        source: a run folder, a bundle, or a version of a model repository.
        scene: the scene folder to judge against; a run has its own, a bundle has none.
        targets: a folder of label maps; by default the scene's own.
        width: in pixels, at which pictures are judged; figures of different widths do not compare.
        on_progress: told how many pictures are judged.

    Returns:
        The figures by target and their means (``evaluation``), the pictures, the milliseconds of drawing one;
        ``write(folder)`` keeps them as ``evaluation.json`` and a sheet.

    Raises:
        InputError: if something is missing or does not fit together.
    """
    from semia.evaluation.evaluate import EvaluationTask
    from semia.evaluation.generators import open_generator

    task = EvaluationTask.prepare(
        [open_generator(Path(source))],
        scene=None if scene is None else Path(scene),
        targets=None if targets is None else Path(targets),
        width=width,
    )
    (result,) = task.run(lambda done, what: on_progress(done / task.pictures, what))
    return result


def publish(
    bundle: StrPath,
    repository: StrPath = REPOSITORY_FOLDER,
    *,
    name: str | None = None,
    settings: "ServingSettings | None" = None,
    url: str | None = None,
    keep: int = DEFAULT_KEEP,
    access: "ServerAccess | None" = None,
    change_classes: bool = False,
) -> "PublishedModel":
    """Add a bundle to a model repository as the next version of its model; with ``url``, put it into service.

    Example::

        published = semia.publish("bundles/pagoda", "model_repository")
        print(published.name, published.version)

    Args:
        bundle: folder of ``model.onnx`` and ``model_card.json``.
        repository: Triton's model repository, made if need be.
        name: the served model's; by default the card's.
        settings: how the model is run; by default as it is now.
        url: HOST:PORT of a running server of this repository: it loads the version and draws one picture; if that
            fails, the version is taken back.
        keep: with ``url``, how many versions stay on the disk.
        access: TLS and the admin key, where that server asks for them.
        change_classes: publish although the classes are others than the version's before.

    Raises:
        InputError: if the bundle is broken, or a name or a setting is impossible.
        ServingError: if the disk refuses, or the server cannot load the version.
    """
    from semia import serving

    if serving.is_object_store(os.fspath(repository)):
        raise InputError(f"{repository} is in an object store: use semia.serving.ObjectRepository")
    how: dict[str, Any] = {"name": name, "settings": settings, "change_classes": change_classes}
    if url is None:
        return serving.publish(Path(bundle), Path(repository), **how)
    access = access or serving.ServerAccess()
    return serving.publish_and_load(Path(bundle), Path(repository), url, keep=keep, access=access, **how).published

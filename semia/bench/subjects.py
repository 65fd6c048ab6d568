"""What is measured: models, each a bundle to serve and, where it is given, the run that it was exported from."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semia.core.errors import InputError
from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import Bundle, ModelCard
from semia.evaluation.generators import open_run
from semia.serving.model_config import DEFAULT_SETTINGS, ServingSettings, settings_from_config
from semia.serving.repository.transaction import CONFIG_FILE

if TYPE_CHECKING:
    from semia.training.run_folder import RunFolder

BLOCKS = Canvas(6, 8)  # of one class each, in the layouts that are made up where there are no drawn ones


@dataclass(frozen=True)
class Subject:
    """One model in all its forms."""

    title: str  # what the report calls it; differs from every other subject's
    card: ModelCard
    bundle: Path  # folder of model.onnx and its card
    run: Path | None  # the run folder; without it there is no eager PyTorch
    settings: ServingSettings  # how Triton runs it
    layouts: tuple[ClassIds, ...]  # uint8[H, W] on its canvas, at least one


def gather_subjects(
    paths: Sequence[Path], workspace: Path, threads: int | None, tell: Callable[[str], None]
) -> list[Subject]:
    """Find the models that run folders, bundles, and versions in a model repository stand for.

    A run and a bundle exported from it are one model. A run that comes without a bundle is exported into ``workspace``,
    an empty folder. An instance has so many CPU threads; None: as published, or the default.

    Raises:
        InputError: if a path is none of these or is broken, or comes twice.
        ExportError: if a run cannot be exported.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("name every run, bundle and model once")
    models = {path: Bundle.open(path).card for path in paths if Bundle.is_bundle(path)}
    runs = _runs_by_generator([path for path in paths if path not in models])
    exported = {card.generator_sha256 for card in models.values()}
    for run in [run for generator, run in runs.items() if generator not in exported]:
        from semia.export.exporter import export_run

        tell(f"exporting {run.path}, for which no bundle was given")
        bundle = workspace / f"bundle-{len(models)}"
        models[bundle] = export_run(run, bundle).card
    titles = _titles(models)
    subjects = []
    for bundle, card in models.items():
        origin = runs.get(card.generator_sha256)
        # The run's own layouts, for the work may depend on what is asked for.
        layouts = made_up_layouts(card) if origin is None else (origin.scene.labels, *origin.scene.targets.values())
        path = None if origin is None else origin.path
        subjects.append(Subject(titles[bundle], card, bundle, path, _settings(bundle, threads), layouts))
    return subjects


def _runs_by_generator(paths: Sequence[Path]) -> "dict[str, RunFolder]":
    runs = {}
    for path in paths:
        run = open_run(path)
        if not (path / "generator.safetensors").is_file():
            raise InputError(f"{path} has no generator yet: `semia train` makes it")
        runs[run.generator_sha256()] = run
    return runs


def _titles(models: Mapping[Path, ModelCard]) -> dict[Path, str]:
    """Names of models, with the folder where a name alone would mean two."""
    titles = {}
    for path, card in models.items():
        precision = "" if card.precision == "fp32" else f", {card.precision}"
        titles[path] = f"{card.name} ({card.generator}{precision})"
    named = Counter((titles[path], card.canvas) for path, card in models.items())
    return {
        path: titles[path] if named[titles[path], card.canvas] == 1 else f"{titles[path]} in {path}"
        for path, card in models.items()
    }


def _settings(bundle: Path, threads: int | None) -> ServingSettings:
    config = bundle.resolve().parent / CONFIG_FILE
    if threads is not None:
        return ServingSettings(threads=threads)
    return settings_from_config(config.read_text(encoding="utf-8")) if config.is_file() else DEFAULT_SETTINGS


def made_up_layouts(card: ModelCard) -> tuple[ClassIds, ...]:
    """A few layouts ``uint8[H, W]`` on a model's canvas, of blocks of random classes; the same every time."""
    random = np.random.default_rng(0)
    rows, columns = (np.arange(side) * blocks // side for side, blocks in zip(card.canvas, BLOCKS, strict=True))
    blocks = random.integers(0, len(card.palette), (4, *BLOCKS), dtype=np.uint8)
    return tuple(np.ascontiguousarray(layout[rows][:, columns]) for layout in blocks)

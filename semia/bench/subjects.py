"""What is measured: models, each a bundle to serve and, where it is given, the run that it was exported from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semia.core.errors import InputError
from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import Bundle, ModelCard
from semia.serving.model_config import DEFAULT_SETTINGS, ServingSettings, settings_from_config
from semia.serving.repository.transaction import CONFIG_FILE

BLOCKS = Canvas(6, 8)
"""Of one class each, in the layouts that are made up where there are no drawn ones."""


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
    for generator, run in runs.items():
        if generator not in exported:
            bundle = workspace / f"bundle-{len(models)}"
            models[bundle] = _export(run, bundle, tell)
    titles = _titles(models)
    return [
        Subject(
            title=titles[bundle],
            card=card,
            bundle=bundle,
            run=runs.get(card.generator_sha256),
            settings=_settings(bundle, threads),
            layouts=_layouts(card, runs.get(card.generator_sha256)),
        )
        for bundle, card in models.items()
    ]


def _runs_by_generator(paths: Sequence[Path]) -> dict[str, Path]:
    if not paths:
        return {}
    from semia.training.run_folder import RunFolder

    runs = {}
    for path in paths:
        if not RunFolder.is_run(path):
            raise InputError(
                f"{path} is neither a run folder nor a bundle nor a published version (such as model_repository/NAME/1)"
            )
        run = RunFolder.open(path)
        if not (path / "generator.safetensors").is_file():
            raise InputError(f"{path} has no generator yet: `semia train` makes it")
        runs[run.generator_sha256()] = path
    return runs


def _export(run: Path, bundle: Path, tell: Callable[[str], None]) -> ModelCard:
    from semia.export.exporter import export_run
    from semia.training.run_folder import RunFolder

    tell(f"exporting {run}, for which no bundle was given")
    return export_run(RunFolder.open(run), bundle).card


def _titles(models: Mapping[Path, ModelCard]) -> dict[Path, str]:
    """Names of models, with the folder where a name alone would mean two."""
    titles = {path: _title(card) for path, card in models.items()}
    all_titles = [(title, models[path].canvas) for path, title in titles.items()]
    return {
        path: title if all_titles.count((title, models[path].canvas)) == 1 else f"{title} in {path}"
        for path, title in titles.items()
    }


def _title(card: ModelCard) -> str:
    precision = "" if card.precision == "fp32" else f", {card.precision}"
    return f"{card.name} ({card.generator}{precision})"


def _settings(bundle: Path, threads: int | None) -> ServingSettings:
    config = bundle.resolve().parent / CONFIG_FILE
    if threads is not None:
        return ServingSettings(threads=threads)
    return settings_from_config(config.read_text(encoding="utf-8")) if config.is_file() else DEFAULT_SETTINGS


def _layouts(card: ModelCard, run: Path | None) -> tuple[ClassIds, ...]:
    """The run's own layouts, for the work may depend on what is asked for; without a run, made-up ones."""
    if run is None:
        return made_up_layouts(card)
    from semia.training.run_folder import RunFolder

    scene = RunFolder.open(run).scene
    return (scene.labels, *scene.targets.values())


def made_up_layouts(card: ModelCard) -> tuple[ClassIds, ...]:
    """A few layouts ``uint8[H, W]`` on a model's canvas, of blocks of random classes; the same every time."""
    random = np.random.default_rng(0)
    rows, columns = (np.arange(side) * blocks // side for side, blocks in zip(card.canvas, BLOCKS, strict=True))
    blocks = random.integers(0, len(card.palette), (4, *BLOCKS), dtype=np.uint8)
    return tuple(np.ascontiguousarray(layout[rows][:, columns]) for layout in blocks)

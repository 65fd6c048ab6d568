"""How a training gets on: figures and pictures at chosen iterations, as JSON, a plot and a sheet in the run folder.

`python examples/training_curve.py SCENE RUN --resize 0.5 --at 100,300,600` trains in pieces, and goes on where it was
stopped. Needs the extras `training` and `evaluation`.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import matplotlib.figure
import numpy as np
import typer
from PIL import Image

import semia
from semia.evaluation.evaluate import FIGURE_HEADINGS
from semia.training.evaluation_file import Figures
from semia.training.run_folder import RunFolder

CURVE, PLOT, SHEET = "curve.json", "curve.png", "curve.jpg"
METRICS = "metrics.jsonl"
FIGURES = dict(zip((field.name for field in fields(Figures)), FIGURE_HEADINGS, strict=True))
LOSSES = ("adversarial", "feature_matching", "reconstruction", "fixed_point", "alignment", "coherence", "discriminator")
SMOOTHED = 25
"""Iterations of one kind over which a drawn loss is the mean."""

ROW_HEIGHT = 150
"""Pixels of a row of pictures."""


def main(
    scene: Annotated[Path, typer.Argument(help="Scene folder with target layouts.")],
    run: Annotated[Path, typer.Argument(help="Run folder to make or to go on with.")],
    at: Annotated[str, typer.Option(help="Iterations after which to look, ascending.")] = "100,300,600,1000,2500",
    preset: Annotated[str, typer.Option(help="paper or paper-short.")] = "paper",
    resize: Annotated[float | None, typer.Option(help="Factor for the scene's size.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a published generator and judge it on the way; the last number is the training's length."""
    marks = [int(mark) for mark in at.split(",")]
    for mark in marks:
        while (done := _iterations_done(run)) < mark:
            left = iter(range(mark - done - 1, -1, -1))
            semia.train(
                scene,
                run,
                preset=preset,
                resize=resize,
                iterations=marks[-1],
                device=device,
                resume=True,
                on_progress=lambda share, what: print(f"\r{share:4.0%} {what}", end="", flush=True),
                should_stop=lambda left=left: next(left) == 0,
            )
        if not any(point["iterations"] == mark for point in _points(run)):
            _look(run, mark)
    plot(run)


def _look(run: Path, iterations: int) -> None:
    """Judge the generator as it is, and keep its figures and pictures of the layouts that are not the photograph's."""
    result = semia.evaluate(run)
    names = [name for name in result.pictures if name != "rec" and not name.startswith("mask")]
    mean = Figures.mean(result.evaluation.targets[name] for name in names)
    point = {"iterations": iterations, "seconds": round(RunFolder.open(run).seconds_done, 1), **asdict(mean)}
    folder = run / "curve"
    folder.mkdir(exist_ok=True)
    row = np.concatenate([result.pictures[name] for name in names], axis=1)
    Image.fromarray(row).save(folder / f"{iterations:05d}.png")
    (run / CURVE).write_text(json.dumps([*_points(run), point], indent=1) + "\n", encoding="utf-8")
    print(f"\n{point}")


def plot(run: Path) -> None:
    """Draw losses and figures over iterations and minutes, and put the pictures under each other."""
    points = _points(run)
    metrics = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    minutes = sum(line["seconds"] for line in metrics) / 60 / len(metrics)  # an iteration
    figure = matplotlib.figure.Figure(figsize=(13, 6.5), layout="constrained")
    axes = figure.subplot_mosaic([["losses"] * len(FIGURES), list(FIGURES)], height_ratios=(3, 2))
    losses = axes.pop("losses")
    for name in LOSSES:
        told = [(line["iteration"], line[name]) for line in metrics if name in line]
        if len(told) >= SMOOTHED:
            x, y = np.array(told).T
            kernel = np.full(SMOOTHED, 1 / SMOOTHED)
            losses.plot(x[SMOOTHED - 1 :], np.convolve(y, kernel, "valid"), label=name.replace("_", " "), linewidth=1)
    losses.set(yscale="log", ylabel=f"loss, mean of {SMOOTHED}", xlabel="iterations")
    losses.legend(ncols=len(LOSSES), fontsize=8)
    losses.secondary_xaxis("top", functions=(lambda n: n * minutes, lambda m: m / minutes)).set_xlabel("minutes")
    for name, each in axes.items():
        each.plot([point["iterations"] for point in points], [point[name] for point in points], "o-", markersize=3)
        each.set(title=FIGURES[name], xlabel="iterations")
    figure.savefig(run / PLOT, dpi=100)
    rows = []
    for point in points:
        with Image.open(run / "curve" / f"{point['iterations']:05d}.png") as picture:
            rows.append(np.asarray(picture.resize((round(picture.width * ROW_HEIGHT / picture.height), ROW_HEIGHT))))
    Image.fromarray(np.concatenate(rows)).save(run / SHEET, quality=85)


def _iterations_done(run: Path) -> int:
    return RunFolder.open(run).iterations_done if RunFolder.is_run(run) else 0


def _points(run: Path) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = json.loads((run / CURVE).read_text()) if (run / CURVE).is_file() else []
    return points


if __name__ == "__main__":
    typer.run(main)

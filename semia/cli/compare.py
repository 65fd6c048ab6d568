"""``semia compare``: several generators of one scene, side by side."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import typer
from rich.table import Table

from semia.cli.console import format_duration, print_info, stdout
from semia.cli.evaluate import SceneOption, run_task
from semia.cli.options import Count
from semia.core import DEFAULT_WIDTH
from semia.core.contact_sheet import Tile, contact_sheet
from semia.core.errors import InputError
from semia.core.files import write_result
from semia.core.images import IMAGE_SUFFIXES, RGB, write_rgb

if TYPE_CHECKING:
    from semia.evaluation.evaluate import EvaluatedGenerator, EvaluationTask

T = TypeVar("T")

TILE_WIDTH = 400  # pixels: room for a name
FORMAT = 1  # raised when the JSON's meaning changes


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN|MODEL")],
    targets: Path | None = None,
    scene: SceneOption = None,
    width: Count = DEFAULT_WIDTH,
    sheet: Path | None = None,
    figures: Path | None = None,
    blind: bool = False,
) -> None:
    """Put several generators of one scene side by side: one sheet, one table.

    The table has the means of the six figures that `semia evaluate` explains,
    the number of parameters, how long the iterations of its training took, or
    preparing it, and the milliseconds of drawing one picture. All are drawn in
    this process, on the CPU: runs in PyTorch, models in ONNX Runtime.

    Figures do not know what a picture shows. To let the eye decide, whatever it
    hopes for, look at a sheet made with --blind before you open its key.

    Options:
        paths: Run folders, bundles or published versions of one scene, at one size.
        sheet: Where the sheet goes: a row per target, a column per generator; by default comparison.png.
        figures: Also write everything measured, target by target, as JSON.
        blind: No names and figures on the sheet, no table, and the pictures of every row in a random order. Whose they
            are, and everything measured, goes into STEM.key.json beside the sheet, which --sheet must name.
    """
    if blind and sheet is None:
        raise InputError("--blind needs --sheet: where the sheet goes, and beside it the key to it")
    if blind and figures is not None:
        raise InputError(
            "--blind and --figures exclude each other: everything measured goes into the key beside the sheet"
        )
    sheet = sheet or Path("comparison.png")
    if sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"--sheet {sheet} is no picture file: end it in .png")
    from semia.evaluation.evaluate import EvaluationTask
    from semia.evaluation.generators import open_comparable

    task = EvaluationTask.prepare(open_comparable(paths), scene=scene, targets=targets, width=width)
    results = run_task(task)
    names, key = [target.name for target in task.targets], sheet.with_suffix(".key.json")
    orders = random_orders(names, results) if blind else dict.fromkeys(names, results)
    if blind:
        # Names from left to right, before there is a sheet that only they explain.
        order_of_names = {name: [result.generator.name for result in order] for name, order in orders.items()}
        _write_figures(key, results, rows=order_of_names)
    else:
        _show(results)
    write_rgb(sheet, _sheet(task, orders, blind=blind))
    print_info(f"written: {sheet}")
    if blind:
        print_info(
            f"written: {key}, which says whose picture is where, and everything measured: look at the sheet first"
        )
    elif figures is not None:
        _write_figures(figures, results)
        print_info(f"written: {figures}")


def random_orders(targets: Sequence[str], results: Sequence[T]) -> dict[str, list[T]]:
    """An order of all generators for every target, by its name; each is drawn on its own."""
    # The operating system's randomness: there is no seed by which anyone could tell the orders.
    random = secrets.SystemRandom()
    return {target: random.sample(results, len(results)) for target in targets}


def _show(results: "Sequence[EvaluatedGenerator]") -> None:
    from semia.evaluation.evaluate import FIGURE_HEADINGS, figures_row

    table = Table("means", box=None)
    columns = []
    for result in results:
        generator = result.generator
        table.add_column(generator.name, justify="right", overflow="fold")
        made_in_s = generator.training_s if generator.preparation_s is None else generator.preparation_s
        made_in = "-" if made_in_s is None else format_duration(made_in_s)
        figures = figures_row(result.evaluation.mean)
        columns.append([*figures, f"{generator.parameters:,}", made_in, f"{result.milliseconds:.1f}"])
    headings = (*FIGURE_HEADINGS, "parameters", "made in", "ms a picture")
    for heading, *cells in zip(headings, *columns, strict=True):
        table.add_row(heading, *cells)
    stdout.print(table)


def _sheet(task: "EvaluationTask", orders: "Mapping[str, Sequence[EvaluatedGenerator]]", *, blind: bool) -> RGB:
    """First row: the photograph's labels and the photograph. Then a row per target: its labels, and its pictures.

    ``orders`` are the generators from left to right, by target; ``blind``: nothing says whose pictures they are.
    """
    scene = task.scene
    columns = 1 + len(task.generators)
    tiles = [Tile("its labels", scene.palette.render(scene.labels)), Tile("photograph", scene.image)]
    tiles += [Tile("", np.full_like(scene.image, 255))] * (columns - len(tiles))
    for name, labels in task.label_pictures().items():
        tiles.append(Tile(name, labels))
        for result in orders[name]:
            caption = "" if blind else f"{result.generator.name}\n{result.notes[name]}"
            tiles.append(Tile(caption, result.pictures[name]))
    return contact_sheet(tiles, columns=columns, tile_width=TILE_WIDTH)


def _write_figures(path: Path, results: "Sequence[EvaluatedGenerator]", **more: Any) -> None:
    entries = [
        {
            **result.evaluation.to_dict(),
            "parameters": result.generator.parameters,
            "training_seconds": result.generator.training_s,
            "preparation_seconds": result.generator.preparation_s,
            "milliseconds": round(result.milliseconds, 2),
        }
        for result in results
    ]
    write_result(path, json.dumps({"format": FORMAT, **more, "generators": entries}, indent=2) + "\n")

"""``semia compare``: several generators of one scene, side by side."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from rich.table import Table

from semia.cli.console import clock, say, stdout
from semia.cli.judging import (
    DEFAULT_WIDTH,
    FIGURE_HEADINGS,
    Assessment,
    Judged,
    SceneOption,
    TargetsOption,
    WidthOption,
    note_of,
    row_of,
)
from semia.cli.subjects import open_comparable
from semia.core.contact_sheet import Tile, contact_sheet
from semia.core.errors import InputError, SemiaError
from semia.core.files import write_text
from semia.core.images import IMAGE_SUFFIXES, RGB, write_rgb

T = TypeVar("T")

DEFAULT_SHEET = Path("comparison.png")

TILE_WIDTH = 400
"""Pixels: room for a name."""

FORMAT = 1
"""Raised when the JSON's meaning changes."""


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("compare")(compare)


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|MODEL", help="Run folders, bundles or published versions of one scene, at one size."
        ),
    ],
    targets: TargetsOption = None,
    scene: SceneOption = None,
    width: WidthOption = DEFAULT_WIDTH,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            help=f"Where the sheet goes: a row per target, a column per generator; by default {DEFAULT_SHEET}.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything measured, target by target, as JSON.")
    ] = None,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind",
            help="No names and figures on the sheet, no table, and the pictures of every row in a random order. Whose "
            "they are, and everything measured, goes into STEM.key.json beside the sheet, which --sheet must name.",
        ),
    ] = False,
) -> None:
    """Put several generators of one scene side by side: one sheet, one table.

    The table has the means of the six figures that `semia evaluate` explains,
    the number of parameters, how long the iterations of its training took, or
    preparing it, and the milliseconds of drawing one picture. All are drawn in
    this process, on the CPU: runs in PyTorch, models in ONNX Runtime.

    Figures do not know what a picture shows. To let the eye decide, whatever it
    hopes for, look at a sheet made with --blind before you open its key.
    """
    if blind and sheet is None:
        raise InputError("--blind needs --sheet: where the sheet goes, and beside it the key to it")
    if blind and json_file is not None:
        raise InputError(
            "--blind and --json exclude each other: everything measured goes into the key beside the sheet"
        )
    sheet = sheet or DEFAULT_SHEET
    if sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"--sheet {sheet} is no picture file: end it in .png")
    subjects = open_comparable(paths)
    assessment = Assessment.prepare(subjects, scene, targets, width)
    judged = assessment.judge(subjects)
    if blind:
        _write_blind(sheet, assessment, judged)
        return
    _show(judged)
    rows = {layout.name: [_named(one, layout.name) for one in judged] for layout in assessment.layouts}
    write_rgb(sheet, _sheet(assessment, rows))
    say(f"written: {sheet}")
    if json_file is not None:
        _write_json(json_file, {"generators": [_entry(one) for one in judged]})
        say(f"written: {json_file}")


def _write_blind(sheet: Path, assessment: Assessment, judged: Sequence[Judged]) -> None:
    """Write the sheet without names, and its key: the names from left to right, by target, and what was measured."""
    orders = random_orders([layout.name for layout in assessment.layouts], judged)
    rows = {name: [Tile("", one.pictures[name]) for one in order] for name, order in orders.items()}
    key = sheet.with_suffix(".key.json")
    names = {name: [one.subject.name for one in order] for name, order in orders.items()}
    _write_json(key, {"rows": names, "generators": [_entry(one) for one in judged]})
    write_rgb(sheet, _sheet(assessment, rows))
    say(f"written: {sheet}")
    say(f"written: {key}, which says whose picture is where, and everything measured: look at the sheet first")


def random_orders(targets: Sequence[str], judged: Sequence[T]) -> dict[str, list[T]]:
    """An order of all generators for every target, by its name; each is drawn on its own."""
    # The operating system's randomness: there is no seed by which anyone could tell the orders.
    random = secrets.SystemRandom()
    return {target: random.sample(judged, len(judged)) for target in targets}


def _show(judged: Sequence[Judged]) -> None:
    rows: dict[str, list[str]] = {
        heading: [] for heading in (*FIGURE_HEADINGS, "parameters", "made in", "ms a picture")
    }
    for subject, _, milliseconds, evaluation in judged:
        made_in_s = subject.training_s if subject.preparation_s is None else subject.preparation_s
        made_in = "-" if made_in_s is None else clock(made_in_s)
        cells = [*row_of(evaluation.mean), f"{subject.parameters:,}", made_in, f"{milliseconds:.1f}"]
        for row, cell in zip(rows.values(), cells, strict=True):
            row.append(cell)
    table = Table(box=None)
    table.add_column("means")
    for one in judged:
        table.add_column(one.subject.name, justify="right", overflow="fold")
    for heading, row in rows.items():
        table.add_row(heading, *row)
    stdout.print(table)


def _named(judged: Judged, target: str) -> Tile:
    return Tile(f"{judged.subject.name}\n{note_of(judged.evaluation.targets[target])}", judged.pictures[target])


def _sheet(assessment: Assessment, rows: Mapping[str, Sequence[Tile]]) -> RGB:
    """First row: the photograph's labels and the photograph. Then a row per layout: its labels, and its pictures.

    ``rows`` are the pictures by target, as many for each.
    """
    columns = 1 + len(next(iter(rows.values())))
    palette = assessment.scene.palette
    blank = Tile("", np.full_like(assessment.scene.image, 255))
    tiles = [Tile("its labels", palette.render(assessment.scene.labels)), Tile("photograph", assessment.scene.image)]
    tiles += [blank] * (columns - len(tiles))
    for name, labels in assessment.label_pictures().items():
        tiles += [Tile(name, labels), *rows[name]]
    return contact_sheet(tiles, columns=columns, tile_width=TILE_WIDTH)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_text(path, json.dumps({"format": FORMAT, **content}, indent=2) + "\n")
    except OSError as error:
        raise SemiaError(f"cannot write {path}: {error}") from error


def _entry(judged: Judged) -> dict[str, Any]:
    return {
        **judged.evaluation.to_dict(),
        "parameters": judged.subject.parameters,
        "training_seconds": judged.subject.training_s,
        "preparation_seconds": judged.subject.preparation_s,
        "milliseconds": round(judged.milliseconds, 2),
    }

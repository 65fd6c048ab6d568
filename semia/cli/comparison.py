"""``semia compare``: several generators of one scene, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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
from semia.contact_sheet import Tile, contact_sheet
from semia.errors import InputError, SemiaError
from semia.files import write_text
from semia.images import IMAGE_SUFFIXES, RGB, write_rgb

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
        Path, typer.Option("--sheet", help="Where the sheet goes: a row per target, a column per generator.")
    ] = Path("comparison.png"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything measured, target by target, as JSON.")
    ] = None,
) -> None:
    """Put several generators of one scene side by side: one sheet, one table.

    The table has the means of the six figures that `semia evaluate` explains,
    the number of parameters, how long the iterations of the training took, and
    the milliseconds of drawing one picture. All are drawn in this process, on
    the CPU: runs in PyTorch, models in ONNX Runtime.
    """
    if sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"--sheet {sheet} is no picture file: end it in .png")
    subjects = open_comparable(paths)
    assessment = Assessment.prepare(subjects, scene, targets, width)
    judged = assessment.judge(subjects)
    _show(judged)
    write_rgb(sheet, _sheet(assessment, judged))
    say(f"written: {sheet}")
    if json_file is not None:
        _write_json(json_file, judged)
        say(f"written: {json_file}")


def _show(judged: Sequence[Judged]) -> None:
    rows: dict[str, list[str]] = {
        heading: [] for heading in (*FIGURE_HEADINGS, "parameters", "training", "ms a picture")
    }
    for subject, _, milliseconds, evaluation in judged:
        training = "-" if subject.training_s is None else clock(subject.training_s)
        cells = [*row_of(evaluation.mean), f"{subject.parameters:,}", training, f"{milliseconds:.1f}"]
        for row, cell in zip(rows.values(), cells, strict=True):
            row.append(cell)
    table = Table(box=None)
    table.add_column("means")
    for one in judged:
        table.add_column(one.subject.name, justify="right", overflow="fold")
    for heading, row in rows.items():
        table.add_row(heading, *row)
    stdout.print(table)


def _sheet(assessment: Assessment, judged: Sequence[Judged]) -> RGB:
    """First row: the photograph's labels and the photograph. Then a row per layout: its labels, and its pictures."""
    palette = assessment.scene.palette
    blank = Tile("", np.full_like(assessment.scene.image, 255))
    tiles = [Tile("its labels", palette.render(assessment.scene.labels)), Tile("photograph", assessment.scene.image)]
    tiles += [blank] * (len(judged) - 1)
    for name, labels in assessment.label_pictures().items():
        tiles.append(Tile(name, labels))
        for one in judged:
            tiles.append(Tile(f"{one.subject.name}\n{note_of(one.evaluation.targets[name])}", one.pictures[name]))
    return contact_sheet(tiles, columns=1 + len(judged), tile_width=TILE_WIDTH)


def _write_json(path: Path, judged: Sequence[Judged]) -> None:
    content: dict[str, Any] = {"format": FORMAT, "generators": [_entry(one) for one in judged]}
    try:
        write_text(path, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise SemiaError(f"cannot write {path}: {error}") from error


def _entry(judged: Judged) -> dict[str, Any]:
    return {
        **judged.evaluation.to_dict(),
        "parameters": judged.subject.parameters,
        "training_seconds": judged.subject.training_s,
        "milliseconds": round(judged.milliseconds, 2),
    }

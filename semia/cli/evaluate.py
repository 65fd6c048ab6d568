"""``semia evaluate``: how good a generator's pictures are, in figures and in one sheet to look at."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from semia.cli.console import say, stdout
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
from semia.cli.subjects import open_subject
from semia.core.contact_sheet import Tile, result_sheet
from semia.core.errors import InputError
from semia.core.images import RGB, write_rgb
from semia.core.model_card import CARD_FILE


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("evaluate")(evaluate)


def evaluate(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN|MODEL", help="Run folder, bundle, or published version (model_repository/NAME/1)."),
    ],
    targets: TargetsOption = None,
    scene: SceneOption = None,
    width: WidthOption = DEFAULT_WIDTH,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results; by default the run folder or bundle itself."),
    ] = None,
) -> None:
    """Measure how good a generator's pictures of new layouts are.

    Six figures per target; of all but the first, lower is better.

    [bold]align[/]: are the classes where the layout has them? 0 to 1.
    [bold]swd[/]: does a class's texture look like the photograph's as a whole?
    [bold]coherence[/]: does every patch of the picture occur in the photograph?
    [bold]complete[/]: does every patch of the photograph occur in the picture?
    [bold]sharp[/]: is it as sharp as the photograph?
    [bold]seams[/]: do the pieces fit together? The distance to the photograph's
    nearest that a twentieth of the picture's patches exceed, a mean of three
    sizes: 0 to 1000.

    Writes evaluation.json, and evaluation.png to look at, for figures do not
    know what a picture shows. All but seams were once met by pictures with
    blots, torn faces and bricks: whoever copies pixels hard gets good sharp and
    coherence, whatever the pieces form together. seams sees some of it; the eye
    decides.

    The next `semia export` of a run carries the means into the model card; the
    card of a bundle gets them at once.
    """
    from semia.training.evaluation_file import EVALUATION_FILE, EVALUATION_SHEET

    subject = open_subject(path)
    if subject.published and out is None:
        raise InputError(f"{path} is published and stays as it is: say where the results go with --out")
    folder = out or path
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is not a folder")
    assessment = Assessment.prepare([subject], scene, targets, width)
    (judged,) = assessment.judge([subject])
    _show(judged)
    judged.evaluation.write(folder / EVALUATION_FILE)
    write_rgb(folder / EVALUATION_SHEET, _sheet(assessment, judged))
    say(f"written: {folder / EVALUATION_FILE}, {folder / EVALUATION_SHEET}")
    if out is None and subject.card is not None:
        dataclasses.replace(subject.card, quality=judged.evaluation.quality()).write(path / CARD_FILE)
        say(f"written: {path / CARD_FILE}; next: semia publish {path}")
    elif out is None:
        say(f"next: semia export {path}")


def _show(judged: Judged) -> None:
    table = Table(box=None)
    table.add_column("target")
    for heading in FIGURE_HEADINGS:
        table.add_column(heading, justify="right")
    for name, figures in judged.evaluation.targets.items():
        table.add_row(name, *row_of(figures))
    table.add_row("mean", *row_of(judged.evaluation.mean), style="bold")
    stdout.print(table)


def _sheet(assessment: Assessment, judged: Judged) -> RGB:
    return result_sheet(
        Tile("photograph", assessment.scene.image),
        Tile("its labels", assessment.scene.palette.render(assessment.scene.labels)),
        targets=assessment.label_pictures(),
        results=judged.pictures,
        notes={name: note_of(figures) for name, figures in judged.evaluation.targets.items()},
    )

"""``semia evaluate``: how good a generator's pictures are, in figures and in one sheet to look at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.console import StepDisplay, figures_table, print_info, stdout
from semia.cli.options import Count
from semia.core import DEFAULT_WIDTH
from semia.core.errors import InputError
from semia.core.model_card import CARD_FILE

if TYPE_CHECKING:
    from semia.evaluation.evaluate import EvaluatedGenerator, EvaluationTask

SceneOption = Annotated[Path | None, typer.Option(metavar="SCENE")]


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN|MODEL")],
    targets: Path | None = None,
    scene: SceneOption = None,
    width: Count = DEFAULT_WIDTH,
    out: Path | None = None,
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

    Options:
        path: Run folder, bundle, or published version (model_repository/NAME/1).
        out: Folder for the results; by default the run folder or bundle itself.
    """
    from semia.evaluation.evaluate import EvaluationTask
    from semia.evaluation.generators import open_generator

    generator = open_generator(path)
    if generator.published and out is None:
        raise InputError(f"{path} is published and stays as it is: say where the results go with --out")
    folder = out or path
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is not a folder")
    (result,) = run_task(EvaluationTask.prepare([generator], scene=scene, targets=targets, width=width))
    _show(result)
    figures, picture = result.write(folder)
    print_info(f"written: {figures}, {picture}")
    if out is None and generator.bundle is not None:
        generator.bundle.with_quality(result.evaluation.quality())
        print_info(f"written: {path / CARD_FILE}; next: semia publish {path}")
    elif out is None:
        print_info(f"next: semia export {path}")


def run_task(task: "EvaluationTask") -> "list[EvaluatedGenerator]":
    """Evaluate with everything shown."""
    print_info(
        f"judging {task.pictures} pictures of {task.generators[0].canvas} at {task.size} "
        f"against the photograph ({task.scene.canvas})"
    )
    with StepDisplay("judging", task.pictures) as display:
        return task.run(display.update)


def _show(result: "EvaluatedGenerator") -> None:
    from semia.evaluation.evaluate import FIGURE_HEADINGS, figures_row

    table = figures_table("target", *FIGURE_HEADINGS)
    for name, figures in result.evaluation.targets.items():
        table.add_row(name, *figures_row(figures))
    table.add_row("mean", *figures_row(result.evaluation.mean), style="bold")
    stdout.print(table)

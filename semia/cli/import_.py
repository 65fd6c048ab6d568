"""``semia import``: a generator trained with the public code becomes a run folder like any other."""

from pathlib import Path
from typing import Annotated

import typer

from semia.cli.console import print_info
from semia.core import RUNS_FOLDER
from semia.core.errors import InputError
from semia.core.staging import held


def import_(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT")],
    scene: Annotated[Path, typer.Option()],
    run: Path | None = None,
    name: str | None = None,
    resize: float | None = None,
    overwrite: bool = False,
) -> None:
    """Make a run folder of a generator that was trained with the published SemIA code.

    Width and depth are read from the file, which is loaded as data, never as code. The run folder renders, exports,
    publishes and serves like one trained here; it cannot be trained on.

    Options:
        checkpoint: Published SemIA generator, latest_net_G.pth.
        scene: The scene folder it was trained on: img.*, label.*, target layouts in cond/.
        run: Run folder to make; by default runs/NAME.
        resize: Scale the scene by this factor, as it was for the training.
        overwrite: Replace the run folder if there is one.
    """
    from semia.training.published.pretrained import read_published_generator
    from semia.training.run_folder import RunFolder
    from semia.training.scene import load_scene

    loaded = load_scene(scene, name=name, resize=resize)
    for note in loaded.notes:
        print_info(note)
    path = run or RUNS_FOLDER / loaded.name
    with held(path):
        if RunFolder.is_run(path) and not overwrite:
            raise InputError(f"{path} holds a run already: choose another --run, or --overwrite it")
        generator = read_published_generator(checkpoint)
        RunFolder.create_imported(path, loaded, checkpoint, generator)
    print_info(
        f"imported {loaded.name}: width {generator.width}, depth {generator.depth}, {loaded.canvas}, "
        f"{len(loaded.palette)} classes ({loaded.palette}), {len(loaded.targets)} targets; {path}"
    )
    print_info(f"next: semia export {path}")

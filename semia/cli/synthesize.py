"""``semia synthesize``: calling a server from the command line."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.access import reaches_a_server
from semia.cli.console import StepDisplay, interruptible, say
from semia.cli.options import DEFAULT_URL, TimeoutOption, UrlOption
from semia.cli.train import report_failures
from semia.core.errors import InputError
from semia.core.images import list_images, write_rgb

if TYPE_CHECKING:
    from semia.core.access import ServerAccess


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("synthesize")(synthesize)


@reaches_a_server
def synthesize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a served model; `semia models` lists them.")],
    targets: Annotated[list[Path], typer.Argument(metavar="TARGET...", help="Label maps, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures, each named after its label map.")] = Path(
        "pictures"
    ),
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Also write one contact sheet: label maps above their pictures.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out pictures that the same version made of the same label maps.")
    ] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=1000, help="Most calls in flight.")] = 4,
    url: UrlOption = DEFAULT_URL,
    timeout: TimeoutOption = 30.0,
    *,
    access: "ServerAccess",
) -> None:
    """Send label maps to a running server and write the pictures that come back.

    Every picture is written whole or not at all, and says in its file what it was made of. Ctrl-C keeps what is there;
    with --resume the same command goes on, leaving out pictures that the model's latest version has already made of
    the same label maps.
    """
    from semia.cli.batch import Batch
    from semia.client import ClientError, SynthesisClient
    from semia.core.contact_sheet import contact_sheet

    paths = _expand(targets)
    batch = Batch(
        model,
        paths,
        _output_paths(paths, out),
        concurrency=concurrency,
        resume=resume,
        keep_tiles=sheet is not None,
    )
    with SynthesisClient(url, timeout_s=timeout, tls=access.tls, admin_key=access.admin_key) as client:
        try:
            with interruptible(), StepDisplay("synthesizing", len(paths)) as display:
                batch.run(client, display.update)
        except KeyboardInterrupt:
            say(f"{batch.summary(out)}; --resume goes on")
            raise
        except ClientError:
            if batch.written:
                say(f"{batch.summary(out)}; --resume goes on")
            raise
    if sheet is not None and batch.tiles:
        write_rgb(sheet, contact_sheet(batch.tiles[0::2] + batch.tiles[1::2], columns=len(batch.tiles) // 2))
        say(f"contact sheet: {sheet}", "contact_sheet", path=sheet)
    if batch.written or batch.skipped:
        say(batch.summary(out), "pictures_synthesized", model=model, path=out, **batch.figures())
    report_failures(batch.failures, len(paths))


def _expand(targets: list[Path]) -> list[Path]:
    return [path for target in targets for path in (list_images(target) if target.is_dir() else [target])]


def _output_paths(paths: list[Path], out: Path) -> list[Path]:
    """Where each picture goes; two label maps must not fight for one name, nor a picture replace a label map."""
    outputs = [out / f"{path.stem}.png" for path in paths]
    count = Counter(outputs)
    for path, output in zip(paths, outputs, strict=True):
        if count[output] > 1:
            raise InputError(f"two label maps are called {path.stem!r}: give them different names or run them apart")
        if output.resolve() == path.resolve():
            raise InputError(f"the picture of {path} would replace it: choose another --out")
    return outputs

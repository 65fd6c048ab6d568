"""``semia synthesize`` and ``semia models``: calling a server from the command line."""

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from semia.cli.console import StepDisplay, record, say, stdout
from semia.cli.options import DEFAULT_URL, TimeoutOption, UrlOption
from semia.cli.training import report_failures
from semia.errors import InputError
from semia.images import list_images, write_image, write_rgb


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("synthesize")(synthesize)
    app.command("models")(models)


def synthesize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a served model; `semia models` lists them.")],
    targets: Annotated[list[Path], typer.Argument(metavar="TARGET...", help="Label maps, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures, each named after its label map.")] = Path(
        "pictures"
    ),
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Also write one contact sheet: label maps above their pictures.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Send label maps to a running server and write the pictures that come back."""
    from client import SynthesisClient, TargetSizeError, UnknownColourError, UnreadableTargetError
    from semia.contact_sheet import Tile, contact_sheet
    from semia.images import rgb_array

    paths = _expand(targets)
    outputs = _output_paths(paths, out)
    failures: list[str] = []
    latencies_ms: list[float] = []
    tiles: list[Tile] = []
    with SynthesisClient(url, timeout_s=timeout) as client:
        palette = client.describe(model).palette
        with StepDisplay("synthesizing", len(paths)) as display:
            for done, (path, output) in enumerate(zip(paths, outputs, strict=True), start=1):
                try:
                    ids = client.class_ids(model, path)
                except (TargetSizeError, UnknownColourError, UnreadableTargetError) as error:
                    failures.append(str(error))
                    record("target_refused", model=model, target=path, note=str(error))
                    continue
                began = time.perf_counter()
                picture = client.synthesize(model, ids)
                latencies_ms.append(1000 * (time.perf_counter() - began))
                write_image(output, picture)
                record("picture_synthesized", model=model, target=path, path=output, latency_s=latencies_ms[-1] / 1000)
                if sheet is not None:
                    tiles += [Tile(path.stem, palette.render(ids)), Tile("", rgb_array(picture))]
                display.update(done, path.name)
    if sheet is not None and tiles:
        write_rgb(sheet, contact_sheet(tiles[0::2] + tiles[1::2], columns=len(tiles) // 2))
        say(f"contact sheet: {sheet}")
    if latencies_ms:
        median_ms = statistics.median(latencies_ms)
        say(
            f"{len(latencies_ms)} pictures in {out}; median latency {median_ms:.1f} ms",
            "pictures_synthesized",
            model=model,
            pictures=len(latencies_ms),
            path=out,
            latency_s=median_ms / 1000,
        )
    report_failures(failures, len(paths))


def _expand(targets: list[Path]) -> list[Path]:
    return [path for target in targets for path in (list_images(target) if target.is_dir() else [target])]


def _output_paths(paths: list[Path], out: Path) -> list[Path]:
    """Where each picture goes; two label maps must not fight for one name, nor a picture replace a label map."""
    outputs = [out / f"{path.stem}.png" for path in paths]
    for path, output in zip(paths, outputs, strict=True):
        if outputs.count(output) > 1:
            raise InputError(f"two label maps are called {path.stem!r}: give them different names or run them apart")
        if output.resolve() == path.resolve():
            raise InputError(f"the picture of {path} would replace it: choose another --out")
    return outputs


def models(url: UrlOption = DEFAULT_URL, timeout: TimeoutOption = 10.0) -> None:
    """List the models of a running server: name, version, canvas, classes."""
    from client import SynthesisClient

    with SynthesisClient(url, timeout_s=timeout) as client:
        descriptions = [client.describe(name) for name in client.models()]
    table = Table(box=None)
    for column in ("model", "version", "canvas", "classes"):
        table.add_column(column)
    for description in descriptions:
        palette = description.palette
        classes = Text()
        for index, code in enumerate(palette.hex_codes):
            name = palette.names[index] if palette.names else ""
            classes.append("  ", style=f"on {code}").append(f" {code} {name}  ".replace("   ", "  "))
        versions = ", ".join(description.versions)
        table.add_row(description.name, versions, str(description.canvas), classes)
    stdout.print(table)

"""``semia synthesize``: calling a server from the command line."""

import functools
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.console import StepDisplay, interruptible, log_event, print_info
from semia.cli.options import TimeoutOption, UrlOption, connection_options
from semia.cli.train import report_failures
from semia.core import DEFAULT_URL
from semia.core.errors import SemiaError
from semia.core.images import list_images, read_rgb, write_rgb

if TYPE_CHECKING:
    from semia.client.batch import FileOutcome
    from semia.core.access import ServerAccess
    from semia.core.palette import Palette


@connection_options
def synthesize(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    targets: Annotated[list[Path], typer.Argument(metavar="TARGET...")],
    out: Path = Path("pictures"),
    sheet: Path | None = None,
    resume: bool = False,
    concurrency: Annotated[int, typer.Option(min=1, max=1000)] = 4,
    url: UrlOption = DEFAULT_URL,
    timeout: TimeoutOption = 30.0,
    *,
    access: "ServerAccess",
) -> None:
    """Send label maps to a running server and write the pictures that come back.

    Every picture is written whole or not at all, and says in its file what it was made of. Ctrl-C keeps what is there;
    with --resume the same command goes on, leaving out pictures that the model's latest version has already made of
    the same label maps.

    Options:
        model: Name of a served model; `semia models` lists them.
        targets: Label maps, or folders of them.
        out: Folder for the pictures, each named after its label map.
        sheet: Also write one contact sheet: label maps above their pictures.
        resume: Leave out pictures that the same version made of the same label maps.
        concurrency: Most calls in flight.
    """
    from semia.client import SynthesisClient
    from semia.client.batch import synthesize_files
    from semia.core.images import output_files

    paths = [path for target in targets for path in (list_images(target) if target.is_dir() else [target])]
    files, counts = output_files(paths, out), _Counts(model, out, concurrency)
    shown: list[FileOutcome] = []
    with SynthesisClient(url, timeout_s=timeout, tls=access.tls, admin_key=access.admin_key) as client:
        try:
            with interruptible(), StepDisplay("synthesizing", len(files)) as display:
                for outcome in synthesize_files(client, model, files, concurrency=concurrency, resume=resume):
                    counts.add(outcome)
                    if sheet is not None and outcome.error is None:
                        shown.append(outcome)
                    display.update(counts.done, outcome.target.name)
        except (KeyboardInterrupt, SemiaError) as error:
            if counts.latencies_s or isinstance(error, KeyboardInterrupt):
                print_info(f"{counts}; --resume goes on")
            raise
        if counts.latencies_s or counts.skipped:
            figures = {"pictures": len(counts.latencies_s), "skipped": counts.skipped, "latency_s": counts.latency_s}
            print_info(str(counts), "pictures_synthesized", model=model, path=out, **figures)
        if sheet is not None and shown:
            _write_sheet(sheet, shown, client.describe(model).palette)
    report_failures(counts.failures, len(files))


class _Counts:
    """What came of a batch so far."""

    def __init__(self, model: str, out: Path, concurrency: int) -> None:
        self._model, self._out, self._concurrency = model, out, concurrency
        self.latencies_s: list[float] = []  # of pictures that were made
        self.skipped = 0
        self.failures: list[str] = []

    @property
    def done(self) -> int:
        return len(self.latencies_s) + self.skipped + len(self.failures)

    def add(self, outcome: "FileOutcome") -> None:
        """Count an outcome; a log is told of it."""
        tell = functools.partial(log_event, model=self._model, target=outcome.target)
        if outcome.error is not None:
            self.failures.append(str(outcome.error))
            tell("target_refused", note=self.failures[-1])
        elif outcome.skipped:
            self.skipped += 1
        else:
            self.latencies_s.append(outcome.duration_s)
            tell("picture_synthesized", path=outcome.output, latency_s=outcome.duration_s)

    @property
    def latency_s(self) -> float | None:
        return statistics.median(self.latencies_s) if self.latencies_s else None

    def __str__(self) -> str:
        phrases = [f"{len(self.latencies_s)} pictures in {self._out}"]
        if self.latency_s is not None:
            phrases.append(f"median latency {1000 * self.latency_s:.1f} ms with {self._concurrency} at once")
        if self.skipped:
            phrases.append(f"{self.skipped} were there")
        return "; ".join(phrases)


def _write_sheet(path: Path, outcomes: "list[FileOutcome]", palette: "Palette") -> None:
    """Label maps above their pictures."""
    from semia.core.contact_sheet import Tile, pairs_sheet

    labels = [Tile(each.target.stem, palette.render(each.class_ids)) for each in outcomes if each.class_ids is not None]
    pictures = [Tile("", read_rgb(each.output)) for each in outcomes]
    write_rgb(path, pairs_sheet(labels, pictures))
    print_info(f"contact sheet: {path}", "contact_sheet", path=path)

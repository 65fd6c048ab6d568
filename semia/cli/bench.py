"""``semia bench``: how fast models answer on this machine, every way to a picture side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.console import StepDisplay, interruptible, print_info, stdout
from semia.cli.options import Count, OptionalCount
from semia.core.errors import InputError
from semia.core.images import IMAGE_SUFFIXES
from semia.core.staging import temporary_directory

if TYPE_CHECKING:
    from semia.bench.records import Benchmark


def bench(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="RUN|BUNDLE|MODEL")] = None,
    calls: Count = 50,
    concurrency: str = "1,2,4,8",
    threads: OptionalCount = None,
    figures: Path = Path("bench.json"),
    plot: Path | None = None,
    readme: Path | None = None,
) -> None:
    """Measure how fast models answer on this machine.

    Each model is asked for pictures in up to four ways: by [bold]eager PyTorch[/], by
    [bold]ONNX Runtime[/] in one process, by [bold]Triton over gRPC[/] through our client, and
    by Triton through [bold]shared memory[/]. Beside them runs what a picture costs by
    the published method: one eager float32 forward pass of its architecture at
    full width, untrained, nothing computed beforehand.

    A real Triton is started for each model, on free loopback ports, and is gone
    afterwards; your own servers and repository are left alone. Every way has
    processes of its own, and they take turns, five each: what else the machine
    does disturbs all of them alike, so trust the ratios before the
    milliseconds. Memory is the peak of the processes that draw.

    For example:

    semia bench runs/pagoda bundles/pagoda --plot bench.png

    semia bench --figures bench.json --readme PAGE.md    [dim]# measures nothing[/]

    Options:
        paths: Run folders, bundles, published versions. A run and its bundle are one model; a run alone is exported
            first; a bundle alone is measured without eager PyTorch.
        calls: At least so many calls of each way, for each number of clients.
        concurrency: Numbers of clients at once, besides one.
        threads: CPU threads for one picture, of PyTorch, ONNX Runtime and a Triton instance. By default every core,
            and for published versions as they were published.
        figures: Where the figures go, quantiles, machine and versions included. Without anything to measure, they are
            read from there, and shown, plotted and written once more.
        plot: Also draw them, into this picture file.
        readme: Also write them between the performance markers of this Markdown file.
    """
    from semia.bench.records import Benchmark
    from semia.bench.report import NOTES, conditions, rewrite_readme, screen_tables

    if plot is not None and plot.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"--plot {plot} is no picture file: end it in .png")
    if paths:
        benchmark = _measure(paths, threads, calls, _client_counts(concurrency))
        benchmark.write(figures)
    else:
        benchmark = Benchmark.read(figures)
    for table in screen_tables(benchmark):
        stdout.print(table, "")
    stdout.print(*NOTES, "", sep="\n")
    print_info(conditions(benchmark))
    if plot is not None:
        from semia.bench.plot import write_plot

        write_plot(plot, benchmark)
    if readme is not None:
        rewrite_readme(readme, benchmark)
    written = [str(path) for path in (figures if paths else None, plot, readme) if path is not None]
    if written:
        print_info(f"written: {', '.join(written)}")


def _measure(paths: list[Path], threads: int | None, calls: int, concurrency: list[int]) -> "Benchmark":
    from semia.bench.measurement import count_turns, measure
    from semia.bench.subjects import gather_subjects

    with interruptible(), temporary_directory("bench") as workspace:
        subjects = gather_subjects(paths, workspace, threads, print_info)
        with StepDisplay("turn", count_turns(subjects, concurrency)) as display:
            return measure(
                subjects, threads=threads, calls=calls, concurrency=concurrency, tell=print_info, on_turn=display.update
            )


def _client_counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if not all(1 <= count <= 256 for count in counts):
        raise InputError(f"--concurrency {text!r}: write numbers from 1 to 256 with commas between them, like 1,2,4,8")
    return counts

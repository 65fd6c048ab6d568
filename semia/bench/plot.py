"""A benchmark to look at: bars of latencies, and pictures per second over the number of clients."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from semia.bench.records import REFERENCE_TITLE, Benchmark
from semia.bench.report import WAY_TITLES, canvases, levels
from semia.bench.ways import WayName
from semia.core.errors import ImageError
from semia.core.files import staged_file
from semia.core.labels import Canvas

COLORS: dict[WayName, str] = {
    "reference": "#888888",
    "eager": "#d95f02",
    "onnxruntime": "#1b9e77",
    "grpc": "#3b6fb6",
    "shared memory": "#7a5cc0",
}
"""Told apart by people who see few colors, too."""

LINES = ("-", "--", ":", "-.")  # one style a model

MARKS: dict[WayName, str] = {"onnxruntime": "o", "grpc": "s", "shared memory": "^"}

WIDTH, ROW_HEIGHT, BAR_HEIGHT = 12.0, 2.4, 0.3  # inches


def write_plot(path: Path, benchmark: Benchmark) -> None:
    """Draw a benchmark, one row a canvas, into a picture file whose suffix chooses the format.

    Raises:
        ImageError: if there is no such format, or the disk refuses.
    """
    rows = canvases(benchmark)
    heights = [ROW_HEIGHT + BAR_HEIGHT * len(_bars(benchmark, canvas)) for canvas in rows]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False, width_ratios=(3, 2), height_ratios=heights)
    for canvas, (left, right) in zip(rows, axes, strict=True):
        _draw_latencies(left, benchmark, canvas)
        _draw_throughput(right, benchmark, canvas)
    machine = benchmark.machine
    figure.suptitle(f"{machine.cpu}, {machine.cores} cores, {benchmark.date[:10]}", fontsize=10)
    try:
        with staged_file(path) as staging:
            figure.savefig(staging, dpi=110)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot write {path}: {error}") from error


def _bars(benchmark: Benchmark, canvas: Canvas) -> list[tuple[str, WayName, float, float]]:
    """Label, way, median and p95 in ms of every bar, top to bottom."""
    bars = []
    for each in benchmark.measurements:
        if each.canvas == canvas and each.clients == 1:
            title = "" if each.title == REFERENCE_TITLE else f"{each.title}: "
            label = "published architecture" if each.way == "reference" else title + WAY_TITLES[each.way]
            bars.append((label, each.way, each.median_ms, each.quantiles_ms["95"]))
    return bars


def _draw_latencies(axes: Axes, benchmark: Benchmark, canvas: Canvas) -> None:
    bars = _bars(benchmark, canvas)
    labels, ways, medians, tails = zip(*bars, strict=True)
    places = range(len(bars))
    beyond = [tail - median for median, tail in zip(medians, tails, strict=True)]
    drawn = axes.barh(
        places, medians, xerr=[[0] * len(bars), beyond], color=[COLORS[way] for way in ways], ecolor="#444"
    )
    axes.bar_label(drawn, [f"{median:.1f} ms" for median in medians], padding=4, fontsize=8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("ms a picture, one client: median, and p95 as a whisker")
    axes.set_title(str(canvas), loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_throughput(axes: Axes, benchmark: Benchmark, canvas: Canvas) -> None:
    counts = levels(benchmark)
    subjects = [subject for subject in benchmark.subjects if subject.canvas == canvas]
    for number, subject in enumerate(subjects):
        for way, mark in MARKS.items():
            found = [benchmark.find(way, canvas, subject.title, count) for count in counts]
            axes.plot(
                counts,
                [each.pictures_per_s for each in found],
                label=f"{subject.title}: {WAY_TITLES[way]}",
                color=COLORS[way],
                linestyle=LINES[number % len(LINES)],
                marker=mark,
                markersize=4,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("clients at once")
    axes.set_ylabel("pictures per second")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, handlelength=4)
    axes.spines[["top", "right"]].set_visible(False)

"""What `load.py` makes of a run: figures, a table, a plot."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tools import Sample
from semia.files import staged_file

MINUTE_S = 60.0

PLOT_STEP_S = 5.0
"""Calls whose quantiles make one point of the plot."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
COLOURS = {"p50": "#1b9e77", "p95": "#3b6fb6", "p99": "#7a5cc0", "max": "#d95f02"}
PART_COLOURS = {"serve": "#bbbbbb", "Triton": "#3b6fb6", "models": "#a6cee3"}

Figures = dict[str, Any]


class Call(NamedTuple):
    """A call that was answered."""

    ended_s: float  # since the run began
    duration_s: float
    version: int  # that answered


class Span(NamedTuple):
    """A publication into service, or the time a side model was in memory."""

    began_s: float
    ended_s: float
    what: str


@dataclasses.dataclass
class Observations:
    """Everything seen during a run. Threads append to it."""

    calls: list[Call] = dataclasses.field(default_factory=list)
    failures: list[tuple[float, str]] = dataclasses.field(default_factory=list)  # when; what
    wrong: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    repetitions: list[float] = dataclasses.field(default_factory=list)  # when an attempt failed that may be repeated
    updates: list[Span] = dataclasses.field(default_factory=list)
    side_models: list[Span] = dataclasses.field(default_factory=list)
    side_loads_s: list[float] = dataclasses.field(default_factory=list)
    samples: list[Sample] = dataclasses.field(default_factory=list)


def summarize(seen: Observations, window_s: float) -> Figures:
    """Figures of a run; ``window_s`` is what memory is compared by, a time in which all is quiet at least once."""
    near = [call for call in seen.calls if any(_overlap(call, update) for update in seen.updates)]
    chosen = {id(call) for call in near}
    minutes = range(1 + int(max((call.ended_s for call in seen.calls), default=0) / MINUTE_S))
    return {
        "calls": len(seen.calls) + len(seen.side_models) + len(seen.failures),
        "failed": len(seen.failures),
        "wrong": len(seen.wrong),
        "problems": [f"{when_s:.1f} s: {what}" for when_s, what in sorted(seen.failures + seen.wrong)[:20]],
        "repetitions_s": seen.repetitions,
        "versions": {str(version): sum(call.version == version for call in seen.calls) for version in _versions(seen)},
        "latency": {
            "all": _quantiles(seen.calls),
            "during updates": _quantiles(near),
            "otherwise": _quantiles(call for call in seen.calls if id(call) not in chosen),
        },
        "minutes": [_minute(seen, minute) for minute in minutes],
        "side_models": {"loaded": len(seen.side_loads_s), "load_median_s": _median(seen.side_loads_s)},
        "updates": [update._asdict() for update in seen.updates],
        "update_median_s": _median([update.ended_s - update.began_s for update in seen.updates]),
        "memory": _memory(seen.samples, window_s),
        "samples": [dataclasses.asdict(sample) for sample in seen.samples],
        "course": _course(seen.calls),
    }


def _versions(seen: Observations) -> list[int]:
    return sorted({call.version for call in seen.calls})


def _overlap(call: Call, update: Span) -> bool:
    return call.ended_s > update.began_s and call.ended_s - call.duration_s < update.ended_s


def _median(seconds: list[float]) -> float | None:
    return float(np.median(seconds)) if seconds else None


def _quantiles(calls: Iterable[Call]) -> Figures:
    durations_ms = [1000 * call.duration_s for call in calls]
    if not durations_ms:
        return {"calls": 0}
    values = np.quantile(durations_ms, [*QUANTILES.values()])
    return {"calls": len(durations_ms)} | {
        f"{name}_ms": round(float(value), 3) for name, value in zip(QUANTILES, values, strict=True)
    }


def _minute(seen: Observations, minute: int) -> Figures:
    calls = (call for call in seen.calls if call.ended_s // MINUTE_S == minute)
    totals = [sum(sample.megabytes.values()) for sample in seen.samples if sample.when_s // MINUTE_S == minute]
    memory = {"least_mb": round(min(totals), 1), "most_mb": round(max(totals), 1)} if totals else {}
    return {"minute": minute + 1} | _quantiles(calls) | memory


def _memory(samples: list[Sample], window_s: float) -> Figures:
    """The least memory of every whole window, and by how much a straight line through those after a minute rises."""
    windows = []
    for number in range(int(samples[-1].when_s // window_s) if samples else 0):
        inside = [sample.megabytes for sample in samples if sample.when_s // window_s == number]
        if inside:
            parts = {part: min(each[part] for each in inside) for part in inside[0]}
            least = {"total": min(sum(each.values()) for each in inside)} | parts
            windows.append({"began_s": number * window_s} | {part: round(mb, 2) for part, mb in least.items()})
    later = [window for window in windows if window["began_s"] >= MINUTE_S]
    slopes = None
    if len(later) > 2:
        minutes = [window["began_s"] / MINUTE_S for window in later]
        parts = ("total", "models", "Triton", "serve")
        slopes = {part: float(np.polyfit(minutes, [window[part] for window in later], 1)[0]) for part in parts}
    return {"least_of_windows_mb": windows, "mb_per_minute_after_the_first": slopes}


def _course(calls: list[Call]) -> list[Figures]:
    """Quantiles of every few seconds, for the plot."""
    slots: dict[int, list[Call]] = {}
    for call in calls:
        slots.setdefault(int(call.ended_s // PLOT_STEP_S), []).append(call)
    return [{"when_s": (slot + 0.5) * PLOT_STEP_S} | _quantiles(slots[slot]) for slot in sorted(slots)]


def print_report(figures: Figures) -> None:
    """Print the figures, a line a minute."""
    print(f"{figures['calls']} calls, {figures['failed']} failed, {figures['wrong']} wrong pictures", end="; ")
    print(f"{len(figures['repetitions_s'])} attempts repeated")
    for problem in figures["problems"]:
        print(f"  {problem}")
    print(f"{len(figures['updates'])} updates, {len(figures['versions'])} versions answered", end="; ")
    print(f"an update took {figures['update_median_s'] or 0:.1f} s (median)")
    side = figures["side_models"]
    print(
        f"other models loaded and unloaded {side['loaded']} times, {side['load_median_s'] or 0:.1f} s a load (median)"
    )
    titles = "".join(f"{name + ' ms':>10}" for name in QUANTILES)
    print(f"{'':16}{'calls':>10}{titles}   MB least     most")
    for name, latency in figures["latency"].items():
        print(f"{name:16}{_row(latency)}")
    for minute in figures["minutes"]:
        memory = f"{minute.get('least_mb', 0):11.0f}{minute.get('most_mb', 0):9.0f}"
        print(f"minute {minute['minute']:<9}{_row(minute)}{memory}")
    slopes = figures["memory"]["mb_per_minute_after_the_first"]
    if slopes is None:
        print("memory: too short a run to say whether it grows after the first minute")
    else:
        print("memory after the first minute, MB a minute: ", end="")
        print(", ".join(f"{part} {slope:+.2f}" for part, slope in slopes.items()))


def _row(latency: Figures) -> str:
    return f"  {latency['calls']:8}" + "".join(f"{latency.get(f'{name}_ms', 0):10.1f}" for name in QUANTILES)


def write_plot(path: Path, figures: Figures, title: str) -> None:
    """Draw latency and memory over time into a picture file whose suffix chooses the format."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes in (above, below):
        for number, update in enumerate(figures["updates"]):
            label = "a new version is published" if number == 0 else None
            axes.axvspan(update["began_s"], update["ended_s"], color="#000000", alpha=0.12, lw=0, label=label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _draw_latency(above, figures["course"])
    _draw_memory(below, figures)
    figure.suptitle(title, fontsize=10)
    with staged_file(path) as staging:
        figure.savefig(staging, dpi=110)


def _draw_latency(axes: Axes, course: list[Figures]) -> None:
    when_s = [point["when_s"] for point in course]
    for name, colour in COLOURS.items():
        axes.plot(when_s, [point[f"{name}_ms"] for point in course], label=name, color=colour, lw=1.2)
    axes.set_yscale("log")
    axes.set_ylabel(f"ms a call, of every {PLOT_STEP_S:g} s")
    axes.legend(fontsize=7, ncols=5, loc="upper right")


def _draw_memory(axes: Axes, figures: Figures) -> None:
    when_s = [sample["when_s"] for sample in figures["samples"]]
    parts = [[sample["megabytes"][part] for sample in figures["samples"]] for part in PART_COLOURS]
    axes.stackplot(when_s, parts, labels=[*PART_COLOURS], colors=[*PART_COLOURS.values()], lw=0)
    windows = figures["memory"]["least_of_windows_mb"]
    middle = (windows[1]["began_s"] / 2) if len(windows) > 1 else 0
    axes.plot(
        [window["began_s"] + middle for window in windows],
        [window["total"] for window in windows],
        "k.-",
        label="least between two updates",
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MB")
    axes.set_xlabel("seconds")
    axes.legend(fontsize=7, ncols=5, loc="lower right")

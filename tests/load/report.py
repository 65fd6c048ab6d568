"""What `load.py` makes of a run: figures, a table, a plot."""

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semia.core.files import staged_file
from tests.load.tools import Sample

MINUTE_S = 60.0

PLOT_STEP_S = 5.0
"""Calls whose quantiles make one point of the plot."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
COLORS = {"p50": "#1b9e77", "p95": "#3b6fb6", "p99": "#7a5cc0", "max": "#d95f02"}
PARTS = ("total", "models", "Triton", "serve")
PART_COLORS = {"serve": "#bbbbbb", "Triton": "#3b6fb6", "models": "#a6cee3"}

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

    instances: int  # processes of one version of the model
    calls: list[Call] = dataclasses.field(default_factory=list)
    failures: list[tuple[float, str]] = dataclasses.field(default_factory=list)  # when; what
    wrong: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    repetitions: list[float] = dataclasses.field(default_factory=list)  # when an attempt failed that may be repeated
    updates: list[Span] = dataclasses.field(default_factory=list)
    side_models: list[Span] = dataclasses.field(default_factory=list)
    side_loads_s: list[float] = dataclasses.field(default_factory=list)
    samples: list[Sample] = dataclasses.field(default_factory=list)


def summarize(seen: Observations, minutes: float, window_s: float) -> Figures:
    """Figures of a run of so many minutes; ``window_s`` is how long the stretches are that memory is compared by."""
    near = [call for call in seen.calls if any(_overlap(call, update) for update in seen.updates)]
    chosen = {id(call) for call in near}
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
        "minutes": _minutes(seen, math.ceil(minutes)),
        "side_models": {"loaded": len(seen.side_loads_s), "load_median_s": _median(seen.side_loads_s)},
        "updates": [update._asdict() for update in seen.updates],
        "update_median_s": _median([update.ended_s - update.began_s for update in seen.updates]),
        "memory": _memory(seen, window_s),
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


def _minutes(seen: Observations, count: int) -> list[Figures]:
    """What every minute was like; calls that ended after the last belong to it."""
    calls: list[list[Call]] = [[] for _ in range(count)]
    for call in seen.calls:
        calls[min(int(call.ended_s / MINUTE_S), count - 1)].append(call)
    minutes = []
    for number in range(count):
        samples = [sample for sample in seen.samples if sample.when_s // MINUTE_S == number]
        most = {"most_mb": round(max(sum(sample.megabytes.values()) for sample in samples), 1)} if samples else {}
        alone = _alone(samples, seen.instances)
        memory = most if alone is None else most | {"alone_mb": alone["total"], "alone_own_mb": alone["own"]["total"]}
        minutes.append({"minute": number + 1} | _quantiles(calls[number]) | memory)
    return minutes


def _alone(samples: list[Sample], instances: int) -> Figures | None:
    """Medians of the memory while there was one version in memory and no other model; None if that never was."""
    alone = [sample for sample in samples if sample.models == instances]
    if not alone:
        return None

    def medians(megabytes: list[dict[str, float]]) -> Figures:
        parts = {part: [each[part] for each in megabytes] for part in megabytes[0]}
        parts["total"] = [sum(each.values()) for each in megabytes]
        return {part: round(float(np.median(values)), 2) for part, values in parts.items()}

    own = medians([sample.own_megabytes for sample in alone])
    return {**medians([sample.megabytes for sample in alone]), "own": own, "samples": len(alone)}


def _memory(seen: Observations, window_s: float) -> Figures:
    """The memory with one version alone in every stretch, and by how much a straight line through those rises.

    The line leaves the first minute out, and files' pages.
    """
    stretches: dict[int, list[Sample]] = {}
    for sample in seen.samples:
        stretches.setdefault(int(sample.when_s // window_s), []).append(sample)
    windows: list[Figures] = []
    for number, inside in sorted(stretches.items()):
        alone = _alone(inside, seen.instances)
        if alone is not None:
            windows.append({"began_s": number * window_s} | alone)
    later = [window for window in windows if window["began_s"] >= MINUTE_S]
    slopes = None
    if len(later) > 2:
        minutes = [window["began_s"] / MINUTE_S for window in later]
        slopes = {part: round(float(np.polyfit(minutes, [w["own"][part] for w in later], 1)[0]), 3) for part in PARTS}
    return {"one_version_mb": windows, "own_mb_per_minute_after_the_first": slopes}


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
    print(f"{'':16}{'calls':>10}{titles}  MB alone      own     most")
    for name, latency in figures["latency"].items():
        print(f"{name:16}{_row(latency)}")
    for minute in figures["minutes"]:
        memory = "".join(f"{minute.get(f'{kind}_mb', math.nan):9.0f}" for kind in ("alone", "alone_own", "most"))
        print(f"minute {minute['minute']:<9}{_row(minute)}{memory}")
    slopes = figures["memory"]["own_mb_per_minute_after_the_first"]
    if slopes is None:
        print("memory: too short a run to say whether it grows after the first minute")
    else:
        print("memory after the first minute, one version alone, without files' pages, MB a minute: ", end="")
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
    for name, color in COLORS.items():
        axes.plot(when_s, [point[f"{name}_ms"] for point in course], label=name, color=color, lw=1.2)
    axes.set_yscale("log")
    axes.set_ylabel(f"ms a call, of every {PLOT_STEP_S:g} s")
    axes.legend(fontsize=7, ncols=5, loc="upper right")


def _draw_memory(axes: Axes, figures: Figures) -> None:
    when_s = [sample["when_s"] for sample in figures["samples"]]
    parts = [[sample["megabytes"][part] for sample in figures["samples"]] for part in PART_COLORS]
    axes.stackplot(when_s, parts, labels=[*PART_COLORS], colors=[*PART_COLORS.values()], lw=0)
    windows = figures["memory"]["one_version_mb"]
    middles_s = [window["began_s"] + figures["every_s"] / 2 for window in windows]
    axes.plot(middles_s, [window["total"] for window in windows], "k.-", label="one version alone")
    axes.plot(middles_s, [window["own"]["total"] for window in windows], "k.:", label="without files' pages")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MB")
    axes.set_xlabel("seconds")
    axes.legend(fontsize=7, ncols=5, loc="lower right")

"""``semia train`` of many scenes: where the work is done, and how all of them are shown."""

import functools
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from semia.cli import console
from semia.cli.console import format_duration, format_losses, is_interactive, print_error, print_info, stop_on_signals
from semia.core.errors import SemiaError

if TYPE_CHECKING:
    from semia.training.parallel.jobs import Engine, Job, JobStatus
    from semia.training.request import TrainRequest

STATE_STYLES = {
    "training": "cyan",
    "preparing": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "waiting": "dim",
    "done": "green",
}
"""In the order in which one looks for them: where there are more scenes than lines, the last are not seen."""

EVENTS = {
    "training": ("training_started",),
    "preparing": ("preparation_started",),
    "done": ("training_finished", "generator_prepared"),
    "interrupted": ("training_stopped", "preparation_stopped"),
    "failed": ("training_failed", "preparation_failed"),
}
"""What a state is called in a log: where generators are trained, and last where they are prepared."""


EngineName = Literal["local", "ray"]


def train_many(
    requests: "Sequence[TrainRequest]", engine: EngineName, at_once: int | None, address: str | None, cpus: int | None
) -> None:
    """Train or prepare all with everything shown; ``address`` and ``cpus`` are for Ray.

    Raises:
        SemiaError: if any failed.
        SystemExit: with 130, if a signal stopped it.
    """
    from semia.training.parallel.jobs import State, plan, run_jobs, threads_of_each

    if engine == "ray":
        at_once, threads = at_once or len(requests), cpus or 2
        jobs = plan(requests, threads)
        where = _ray(address or "auto", threads, requests[0].device)
    else:
        at_once = min(at_once or 1, len(requests))
        threads = threads_of_each(at_once)
        jobs = plan(requests, threads)
        where = _local()
    many = f"{len(jobs)} scenes" if len(jobs) > 1 else "1 scene"
    work, unit = ("preparing", "stage") if requests[0].is_prepared else ("training", "iteration")
    print_info(f"{work} {many}, {threads} CPU threads each", "fleet_started", scenes=[job.name for job in jobs])
    began = time.monotonic()
    with JobsDisplay(jobs) as display, stop_on_signals(unit) as stop:
        ended = run_jobs(jobs, where, at_once=at_once, on_status=display.update, should_stop=stop)
    counts = {state.value: sum(status.state is state for status in ended.values()) for state in State if state.final}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    print_info(f"{many}: {words}", "fleet_finished", **counts, duration_s=time.monotonic() - began)
    if counts[State.INTERRUPTED]:
        print_info("the same command with --resume goes on")
        raise SystemExit(130)
    failed = [status for status in ended.values() if status.state is State.FAILED]
    if failed:
        raise SemiaError(f"{len(failed)} of {many} failed; the first: {failed[0].name}: {failed[0].note}")
    print_info(f"next: semia export {jobs[0].request.run}")


def _local() -> "Engine":
    from semia.training.parallel.jobs import LocalEngine

    log_format = console.LogFormat.JSON if console.structured() else console.LogFormat.TEXT
    return LocalEngine(functools.partial(console.choose_format, log_format))


def _ray(address: str, cpus: int, device: str) -> "Engine":
    from semia.training.parallel.jobs import LOCAL, prepare_environment

    prepare_environment(address)
    from semia.training.parallel.ray_engine import RayEngine

    print_info("starting a Ray on this machine" if address == LOCAL else f"connecting to Ray at {address}")
    engine = RayEngine(address, cpus=cpus, device=device)
    if not engine.has_room:
        lacking = f"no node has {cpus} CPUs for a scene (and a GPU, where there are any)"
        what = f"warning: {lacking}: they wait until one joins the cluster; --cpus asks for fewer"
        print_error(what, "waiting_for_node", logging.WARNING)
    return engine


class JobsDisplay:
    """Every job's state: a live table on a terminal; elsewhere a line an event, and one now and then for progress."""

    def __init__(self, jobs: "Sequence[Job]") -> None:
        self._jobs = {job.name: job for job in jobs}
        self._status: dict[str, JobStatus] = {}
        self._said_at = dict.fromkeys(self._jobs, time.monotonic())
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if is_interactive():
            self._live = Live(console=console.stdout, get_renderable=self._table, refresh_per_second=2)
            self._live.start(refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, status: "JobStatus") -> None:
        """Take a job's status."""
        before = self._status.get(status.name)
        self._status[status.name] = status
        for note in status.scene_notes:
            print_info(f"{status.name}: {note}", "scene_note", scene=status.name, note=note)
        if self._live is not None:
            return
        now = time.monotonic()
        if before is None or before.state is not status.state:
            self._say_state(status)
        elif now - self._said_at[status.name] >= console.LINE_INTERVAL_S:
            self._said_at[status.name] = now
            self._say_progress(status)

    def _say_state(self, status: "JobStatus") -> None:
        request = self._jobs[status.name].request
        event = EVENTS[status.state][-1 if request.is_prepared else 0]
        fields = {
            "scene": status.name,
            "run": request.run,
            "iteration": None if request.is_prepared else status.iteration,
            "duration_s": status.seconds,
            "note": status.note or None,
        }
        if status.state == "failed":
            print_error(f"{status.name} failed: {status.note}", event, logging.ERROR, **fields)
        else:
            print_info(f"{status.name}: {_so_far(status)}", event, **fields)

    def _say_progress(self, status: "JobStatus") -> None:
        is_prepared = status.state == "preparing"
        print_info(
            f"{status.name}: {_so_far(status)}  {_detail(status)}",
            "preparation_progress" if is_prepared else "training_progress",
            scene=status.name,
            stage=status.stage or None,
            iteration=None if is_prepared else status.iteration,
            losses=None if is_prepared else dict(status.losses),
            duration_s=status.seconds,
            left_s=status.left_s,
        )

    def _table(self) -> Table:
        figures = (Column(heading, justify="right") for heading in ("iteration", "left"))
        table = Table("scene", "state", *figures, Column(overflow="ellipsis", no_wrap=True), box=None)
        states = {name: self._status[name].state.value if name in self._status else "waiting" for name in self._jobs}
        for name in sorted(states, key=lambda name: list(STATE_STYLES).index(states[name])):
            status, style = self._status.get(name), STATE_STYLES[states[name]]
            if status is None:
                table.add_row(name, states[name], style=style)
                continue
            left = "" if status.left_s is None else format_duration(status.left_s)
            iteration = "" if self._jobs[name].request.is_prepared else str(status.iteration)
            table.add_row(name, Text(status.state, style), iteration, left, status.note or _detail(status))
        return table


def _detail(status: "JobStatus") -> str:
    """What a job is at: the stage of its preparation, or the losses of its last iteration."""
    return status.stage or format_losses(status.losses)


def _so_far(status: "JobStatus") -> str:
    parts, duration = [str(status.state)], format_duration(status.seconds)
    if status.note:
        parts.append(status.note)
    if status.iteration:
        parts.append(f"{status.iteration} iterations in {duration}")
    elif status.seconds:
        parts.append(f"in {duration}" if status.state.final else f"{duration} gone")
    if status.left_s is not None:
        parts.append(f"{format_duration(status.left_s)} left")
    return ", ".join(parts)

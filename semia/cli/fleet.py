"""``semia train`` of many scenes: where the work is done, and how all of them are shown."""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.table import Table

from semia.cli import console, logs
from semia.cli.console import clock, complain, live, losses_in_words, say, stop_on_signals
from semia.core.errors import InputError, SemiaError

if TYPE_CHECKING:
    from semia.training.parallel.fleet import Engine, Job, News
    from semia.training.request import TrainRequest

DEFAULT_ADDRESS = "auto"
DEFAULT_CPUS = 2
STATE_STYLES = {
    "training": "cyan",
    "preparing": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "waiting": "dim",
    "done": "green",
}
"""In the order in which one looks for them: where there are more scenes than lines, the last are not seen."""

TRAINING_EVENTS = {
    "training": "training_started",
    "done": "training_finished",
    "interrupted": "training_stopped",
    "failed": "training_failed",
}
PREPARATION_EVENTS = {
    "preparing": "preparation_started",
    "done": "generator_prepared",
    "interrupted": "preparation_stopped",
    "failed": "preparation_failed",
}
"""What a state is called in a log."""


class EngineName(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class Where:
    """An engine as it was asked for; None where an option was left out."""

    engine: EngineName
    jobs: int | None
    address: str | None
    cpus: int | None

    def __post_init__(self) -> None:
        if self.engine is EngineName.LOCAL and (self.address is not None or self.cpus is not None):
            raise InputError("--address and --cpus are for --engine ray: add it, or drop them")


def train_many(requests: "Sequence[TrainRequest]", where: Where) -> None:
    """Train or prepare all with everything shown.

    Raises:
        SemiaError: if any failed.
        SystemExit: with 130, if a signal stopped it.
    """
    from semia.training.parallel.fleet import State, plan, threads_of_each, train_fleet

    if where.engine is EngineName.RAY:
        at_once, threads = where.jobs or len(requests), where.cpus or DEFAULT_CPUS
    else:
        at_once = min(where.jobs or 1, len(requests))
        threads = threads_of_each(at_once)
    jobs = plan(requests, threads)
    engine = _engine(where, threads, requests[0].device)
    many = f"{len(jobs)} scenes" if len(jobs) > 1 else "1 scene"
    work, unit = ("preparing", "stage") if requests[0].is_prepared else ("training", "iteration")
    say(f"{work} {many}, {threads} CPU threads each", "fleet_started", scenes=[job.name for job in jobs])
    began = time.monotonic()
    with FleetDisplay(jobs) as display, stop_on_signals(unit) as stop:
        ended = train_fleet(jobs, engine, at_once=at_once, tell=display.tell, should_stop=stop)
    counts = {state.value: sum(news.state is state for news in ended.values()) for state in State if state.final}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    say(f"{many}: {words}", "fleet_finished", **counts, duration_s=time.monotonic() - began)
    if counts[State.INTERRUPTED]:
        say("the same command with --resume goes on")
        raise SystemExit(130)
    failed = [news for news in ended.values() if news.state is State.FAILED]
    if failed:
        raise SemiaError(f"{len(failed)} of {many} failed; the first: {failed[0].name}: {failed[0].note}")
    say(f"next: semia export {jobs[0].request.run}")


def _engine(where: Where, cpus: int, device: str) -> "Engine":
    if where.engine is EngineName.LOCAL:
        from semia.training.parallel.local_engine import LocalEngine

        log_format = logs.LogFormat.JSON if logs.structured() else logs.LogFormat.TEXT
        return LocalEngine(functools.partial(logs.choose_format, log_format))
    from semia.training.parallel.ray_environment import LOCAL, prepare_environment

    address = where.address or DEFAULT_ADDRESS
    prepare_environment(address)
    from semia.training.parallel.ray_engine import RayEngine

    say("starting a Ray on this machine" if address == LOCAL else f"connecting to Ray at {address}")
    engine = RayEngine(address, cpus=cpus, device=device)
    if not engine.has_room:
        complain(
            f"warning: no node has {cpus} CPUs for a scene (and a GPU, where there are any): "
            "they wait until one joins the cluster; --cpus asks for fewer",
            "waiting_for_node",
            logging.WARNING,
        )
    return engine


class FleetDisplay:
    """Every job's state: a live table on a terminal; elsewhere a line an event, and one now and then for progress."""

    def __init__(self, jobs: "Sequence[Job]") -> None:
        self._jobs = {job.name: job for job in jobs}
        self._news: dict[str, News] = {}
        self._said_at = dict.fromkeys(self._jobs, time.monotonic())
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if live():
            self._live = Live(console=console.stdout, get_renderable=self._table, refresh_per_second=2)
            self._live.start(refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, news: "News") -> None:
        """Take a job's news."""
        before = self._news.get(news.name)
        self._news[news.name] = news
        if self._live is not None:
            return
        now = time.monotonic()
        if before is None or before.state is not news.state:
            self._say_state(news)
        elif now - self._said_at[news.name] >= console.LINE_INTERVAL_S:
            self._said_at[news.name] = now
            self._say_progress(news)

    def _say_state(self, news: "News") -> None:
        request = self._jobs[news.name].request
        event = (PREPARATION_EVENTS if request.is_prepared else TRAINING_EVENTS)[news.state]
        fields = {
            "scene": news.name,
            "run": request.run,
            "iteration": None if request.is_prepared else news.iteration,
            "duration_s": news.seconds,
            "note": news.note or None,
        }
        if news.state == "failed":
            complain(f"{news.name} failed: {news.note}", event, logging.ERROR, **fields)
        else:
            say(f"{news.name}: {_so_far(news)}", event, **fields)

    def _say_progress(self, news: "News") -> None:
        is_prepared = news.state == "preparing"
        say(
            f"{news.name}: {_so_far(news)}  {_detail(news)}",
            "preparation_progress" if is_prepared else "training_progress",
            scene=news.name,
            stage=news.stage or None,
            iteration=None if is_prepared else news.iteration,
            losses=None if is_prepared else dict(news.losses),
            duration_s=news.seconds,
            left_s=news.left_s,
        )

    def _table(self) -> Table:
        table = Table(box=None)
        table.add_column("scene")
        table.add_column("state")
        table.add_column("iteration", justify="right")
        table.add_column("left", justify="right")
        table.add_column("", overflow="ellipsis", no_wrap=True)
        states = {name: self._news[name].state.value if name in self._news else "waiting" for name in self._jobs}
        for name in sorted(states, key=lambda name: list(STATE_STYLES).index(states[name])):
            news, style = self._news.get(name), STATE_STYLES[states[name]]
            if news is None:
                table.add_row(name, states[name], style=style)
                continue
            left = "" if news.left_s is None else clock(news.left_s)
            iteration = "" if self._jobs[name].request.is_prepared else str(news.iteration)
            table.add_row(name, f"[{style}]{news.state}[/]", iteration, left, news.note or _detail(news))
        return table


def _detail(news: "News") -> str:
    """What a job is at: the stage of its preparation, or the losses of its last iteration."""
    return news.stage or losses_in_words(news.losses)


def _so_far(news: "News") -> str:
    parts = [str(news.state), news.note] if news.note else [str(news.state)]
    if news.iteration:
        parts.append(f"{news.iteration} iterations in {clock(news.seconds)}")
    elif news.seconds:
        parts.append(f"in {clock(news.seconds)}" if news.state.final else f"{clock(news.seconds)} gone")
    if news.left_s is not None:
        parts.append(f"{clock(news.left_s)} left")
    return ", ".join(parts)

"""What the command prints: lines, progress, tables, one-line errors.

Information goes to standard output, errors to standard error. With ``--log-format json``, both are events of a
structured log on standard error, and standard output has only what was asked for.
"""

import codecs
import datetime
import io
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

# What users typed is shown as they typed it: nothing is markup, and ":sun:" is no picture.
stdout = Console(highlight=False, markup=False, emoji=False)
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)

LINE_INTERVAL_S = 15.0  # where output goes to a file or a log, progress is one line every so many seconds


def print_info(message: str, event: str = "message", **fields: object) -> None:
    """Print one line, never wrapped or taken for markup; a structured log gets the event with its fields."""
    if structured():
        write_event(event, message, logging.INFO, fields)
    else:
        stdout.print(message, soft_wrap=True)


def print_error(message: str, event: str = "error", level: int = logging.ERROR, **fields: object) -> None:
    """Print one line to standard error; a structured log gets an event of a level of `logging`."""
    message = " ".join(message.split())
    if structured():
        write_event(event, message, level, fields)
    else:
        stderr.print(f"semia: {message}", soft_wrap=True)


def log_event(event: str, **fields: object) -> None:
    """Add an event to a structured log; print nothing."""
    if structured():
        write_event(event, "", logging.INFO, fields)


def print_view(view: RenderableType) -> None:
    """Print a table, unless the log is structured: then use `log_event` for what is in it."""
    if not structured():
        stdout.print(view)


def accept_any_text() -> None:
    """Have standard output and error take any text, whatever characters the locale has.

    File names come out byte by byte as they went in, even those that are no text.
    """
    codecs.register_error("semia", _encode_anyway)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="semia")


def _encode_anyway(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    try:
        return text.encode("ascii", "surrogateescape"), error.end
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace"), error.end


def is_interactive() -> bool:
    """Whether standard output is a terminal, on which lines can be drawn again."""
    return stdout.is_terminal and not structured()


class _Display:
    """A progress bar on a terminal; a line or an event now and then elsewhere."""

    def __init__(self, title: str, event: str, fields: dict[str, object]) -> None:
        self._title, self._event, self._fields = title, event, fields
        self._began_at = self._said_at = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=stdout,
            disable=not is_interactive(),
        )
        self._task = self._bar.add_task(title, total=1.0, figures="", detail="")

    def __enter__(self) -> Self:
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._bar.disable:
            self._bar.stop()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at

    def _show(
        self,
        task: TaskID,
        share: float,
        figures: str,
        detail: str,
        fields: Mapping[str, object],
        *,
        elapsed_s: float | None = None,
        left_s: float | None = None,
        due: bool = False,
    ) -> None:
        """Move a bar; where there are none, say a line, unless that is too soon after the last and not ``due`` anyway.

        The time elapsed is by default that of this display; ``fields`` are the event's.
        """
        left = "" if left_s is None else f", {format_duration(left_s)} left"
        self._bar.update(task, completed=share, figures=figures + left, detail=detail)
        now = time.monotonic()
        if self._bar.disable and (due or now - self._said_at >= LINE_INTERVAL_S):
            self._said_at = now
            gone_s = self._elapsed_s if elapsed_s is None else elapsed_s
            text = f"{self._title} {figures}, {format_duration(gone_s)} gone{left}  {detail}".rstrip()
            print_info(text, self._event, **self._fields, **fields, duration_s=gone_s, left_s=left_s)


class StepDisplay(_Display):
    """How many of a number of steps are done, and how long the others will take."""

    def __init__(self, title: str, total: int, event: str = "progress", **fields: object) -> None:
        super().__init__(title, event, {**fields, "total": total})
        self._steps = total
        self._first: int | None = None
        self._prepared_s = 0.0

    def prepare(self, detail: str) -> None:
        """Say what goes on before the first step; how long that takes does not tell how long steps do."""
        self._show(self._task, 0.0, f"0/{self._steps}", detail, {})
        self._prepared_s = self._elapsed_s

    def update(self, done: int, detail: str = "", **fields: object) -> None:
        """Say that ``done`` steps of the total are done; for a log with the event's fields."""
        if self._first is None:
            self._first = done - 1  # a resumed run begins in the middle; only steps made here tell the speed
        left_s = (self._elapsed_s - self._prepared_s) / (done - self._first) * (self._steps - done)
        figures, due = f"{done}/{self._steps}", done >= self._steps
        self._show(self._task, done / self._steps, figures, detail, {"done": done, **fields}, left_s=left_s, due=due)


class ClockDisplay(_Display):
    """How many steps are done in a given time, and what is left of it."""

    def __init__(self, title: str, total_s: float, event: str = "progress", **fields: object) -> None:
        super().__init__(title, event, fields)
        self._total_s = total_s

    def update(self, done: int, seconds: float, detail: str = "", **fields: object) -> None:
        """Say that ``done`` steps were made, and that ``seconds`` of the time are gone."""
        share, left_s = seconds / self._total_s, max(0.0, self._total_s - seconds)
        fields |= {"done": done}
        self._show(self._task, share, str(done), detail, fields, elapsed_s=seconds, left_s=left_s, due=share >= 1)


class StageDisplay(_Display):
    """Which stage a computation is in, and what share of it all is done."""

    def __init__(self, title: str, event: str = "progress", **fields: object) -> None:
        super().__init__(title, event, fields)
        self._stage = ""

    def update(self, stage: str, share: float) -> None:
        """Show the present stage, and what share of all stages is done."""
        due, self._stage = share >= 1 or stage != self._stage, stage
        self._show(self._task, share, f"{share:.0%}", stage, {"stage": stage, "share": share}, due=due)


class PhaseDisplay(_Display):
    """How a build with phases within phases goes: a bar for each on a terminal; a line now and then elsewhere."""

    def __init__(self, title: str) -> None:
        super().__init__(f"{title}:", "progress", {})
        self._bar.update(self._task, visible=False)
        self._phases: dict[str, tuple[int, TaskID]] = {}

    def start(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins."""
        self._phases[phase] = steps, self._bar.add_task("", total=1.0, figures=phase, detail="")

    def step(self, phase: str, step: int) -> None:
        """A step of a phase, counted from 0, is done."""
        (steps, bar), done = self._phases[phase], step + 1
        fields = {"phase": phase, "done": done, "total": steps}
        self._show(bar, done / steps, f"{phase} {done}/{steps}", "", fields)

    def finish(self, phase: str) -> None:
        """A phase is over."""
        self._bar.remove_task(self._phases.pop(phase)[1])


def figures_table(name: str, *figures: str) -> Table:
    """An empty table of names, folded where they are long, and figures beside them."""
    return Table(Column(name, overflow="fold"), *(Column(figure, justify="right") for figure in figures), box=None)


def format_duration(seconds: float) -> str:
    """A duration as M:SS, or H:MM:SS from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def format_versions(versions: tuple[int, ...]) -> str:
    """Version numbers as "version 1" or "versions 1, 2"."""
    return f"version{'s' * (len(versions) != 1)} {', '.join(map(str, versions))}"


def format_losses(losses: Mapping[str, float]) -> str:
    """The losses of an iteration, for one line."""
    return "  ".join(f"{loss} {value:.3f}" for loss, value in losses.items())


@contextmanager
def stop_on_signals(unit: str = "iteration") -> Iterator[Callable[[], bool]]:
    """Yield what tells whether a first Ctrl-C, SIGTERM or SIGHUP has asked to stop; a second one stops at once.

    Args:
        unit: of the work, after which it stops.
    """
    asked = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _hang_up()
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print_info(f"stopping after this {unit}; press Ctrl-C again to stop at once", "stop_requested")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, *_ending_signals())}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_like_ctrl_c() -> None:
    """Have SIGTERM and SIGHUP do what Ctrl-C does, so that they, too, leave no process and no file behind."""
    for number in _ending_signals():
        signal.signal(number, _interrupt)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt a command, too, that a script started in the background, which is told to ignore it."""
    previous = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _ending_signals() -> tuple[signal.Signals, ...]:
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
    return (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        _hang_up()
    raise KeyboardInterrupt


def _hang_up() -> None:
    """The terminal may be gone: nothing more is to fail because nobody reads it, nor because it says so twice."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.write(stream.fileno(), b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_logger = logging.getLogger("semia")
_structured = False


class LogFormat(StrEnum):
    """How a command tells what it does."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON: time, level, event, the event's fields, message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; records of libraries, which know no events, name their logger instead."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        content: dict[str, object] = {"time": time, "level": record.levelname.lower()}
        if record.name == _logger.name:
            content |= {"event": record.__dict__["event"], **_plain(record.__dict__["fields"])}
        else:
            content |= {"event": "library", "logger": record.name}
        if message := record.getMessage().strip():
            content["message"] = message
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def choose_format(log_format: LogFormat) -> None:
    """Have the process log in a format; libraries' warnings follow, so that every line can be parsed."""
    global _structured
    _structured = log_format is LogFormat.JSON
    if _structured:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logging.getLogger().handlers[:] = [handler]  # whatever a library put there writes other lines
        logging.captureWarnings(True)
        _logger.setLevel(logging.INFO)


def structured() -> bool:
    """Whether events are logged as JSON, and nothing is shown for a person's eyes alone."""
    return _structured


def write_event(event: str, message: str, level: int, fields: dict[str, object]) -> None:
    """Log an event, where `structured`."""
    _logger.log(level, "%s", message, extra={"event": event, "fields": fields})


def _plain(value: Any) -> Any:
    """Fields as JSON has them: infinite numbers as strings, six decimals, None left out."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return value

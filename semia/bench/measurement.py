"""Measuring: every way to a picture in turn, again and again, so that a noisy minute disturbs them all alike."""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from semia.bench.records import REFERENCE_TITLE, Benchmark, Measurement, ProfileRecord, SubjectRecord, Turn, pooled
from semia.bench.subjects import Subject
from semia.bench.ways import (
    InWorker,
    OverGrpc,
    Round,
    ThroughSharedMemory,
    Way,
    WayName,
    open_eager,
    open_reference,
    open_session,
    temporary_triton,
)
from semia.core.labels import Canvas
from semia.core.machine import this_machine, usable_cores
from semia.core.model_card import MODEL_FILE
from semia.export.profiling import LEAST_RUNS, profile_stages

ROUNDS_OF_ONE, ROUNDS_OF_MANY = 25, 10
"""How often the ways take turns, with one client and with more.

What Triton adds is a few milliseconds, and the machine changes as much from one second to the next: many short turns.
"""

WARM_UP_CALLS = 3  # before anything is measured; `closed_loop` makes one more at the beginning of every turn
CALLS_PER_CLIENT = 2  # at least so many a turn: with fewer, most of the time not all clients would be busy
TAKE_MANY = 3  # ways of a subject that take several clients: the session, and Triton's two
MODEL_NAME = "model"  # what a subject is called by the Triton of its own that serves it

Key = tuple[str, WayName]
"""A way of a subject: the subject's title and the way's name."""

WayKey = TypeVar("WayKey")


def measure(
    subjects: Sequence[Subject],
    *,
    threads: int | None,
    calls: int,
    concurrency: Sequence[int],
    tell: Callable[[str], None],
    on_turn: Callable[[int, str], None],
) -> Benchmark:
    """Measure all subjects, those of one canvas side by side with the published architecture.

    Args:
        subjects: the models.
        threads: CPU threads for one picture; None: every core that this process may use.
        calls: at least so many of each way, with each number of clients.
        concurrency: numbers of clients at once; 1 is always among those measured.
        tell: told what is being prepared.
        on_turn: told after each of the `count_turns` how many are over, and which that was.

    Raises:
        SemiaError: if a model cannot be run, or Triton cannot be started.
    """
    machine, date = this_machine(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    count = threads or usable_cores()
    measurements: list[Measurement] = []
    profiles: list[ProfileRecord] = []
    done = 0
    for canvas, group in _by_canvas(subjects).items():
        tell(f"{canvas}: starting PyTorch, ONNX Runtime and Triton for {', '.join(each.title for each in group)}")
        with _opened_ways(canvas, group, count) as ways:
            for clients in _levels(concurrency):
                able = {key: way for key, way in ways.items() if clients == 1 or way.takes_many}
                rounds: dict[Key, list[Round]] = {key: [] for key in able}
                for (title, name), turn in take_turns(able, clients, calls):
                    rounds[title, name].append(turn)
                    done += 1
                    on_turn(done, f"{canvas} {title}, {name}, {clients} at once")
                measurements += [
                    _measurement(title, canvas, ways[title, name], clients, turns)
                    for (title, name), turns in rounds.items()
                ]
        tell(f"{canvas}: profiling")
        for each in group:
            profile = profile_stages(each.bundle / MODEL_FILE, each.layouts[0], LEAST_RUNS, count)
            profiles.append(ProfileRecord(each.title, canvas, profile))
    return Benchmark(machine, date, count, calls, [_record(subject) for subject in subjects], measurements, profiles)


def count_turns(subjects: Sequence[Subject], concurrency: Sequence[int]) -> int:
    """How many turns `measure` will have."""
    levels = _levels(concurrency)
    alone = len(_by_canvas(subjects)) + sum(subject.run is not None for subject in subjects)
    return ROUNDS_OF_ONE * alone + TAKE_MANY * len(subjects) * sum(count_rounds(clients) for clients in levels)


def take_turns(ways: Mapping[WayKey, Way], clients: int, calls: int) -> Iterator[tuple[WayKey, Round]]:
    """Let ways take turns with so many clients at once, for ``calls`` of each or more; yields every turn."""
    for way in ways.values():
        way.draw(clients, 1)
    for _ in range(count_rounds(clients)):
        for key, way in ways.items():
            yield key, way.draw(clients, turn_length(calls, clients))


def count_rounds(clients: int) -> int:
    """How often the ways take turns with so many clients at once."""
    return ROUNDS_OF_ONE if clients == 1 else ROUNDS_OF_MANY


def turn_length(calls: int, clients: int) -> int:
    """How many calls all clients together make in one of the `count_rounds`, for ``calls`` or more altogether."""
    return max(-(-calls // count_rounds(clients)), CALLS_PER_CLIENT * clients)


def _levels(concurrency: Sequence[int]) -> list[int]:
    return sorted({1, *concurrency})


def _by_canvas(subjects: Sequence[Subject]) -> dict[Canvas, list[Subject]]:
    """Subjects by canvas, the largest first."""
    canvases = sorted({subject.card.canvas for subject in subjects}, reverse=True)
    return {canvas: [subject for subject in subjects if subject.card.canvas == canvas] for canvas in canvases}


@contextmanager
def _opened_ways(canvas: Canvas, subjects: Sequence[Subject], threads: int) -> Iterator[dict[Key, Way]]:
    """Every way to pictures of one canvas, by subject and name, warmed up; each in processes of its own."""
    ways: dict[Key, Way] = {}
    with ExitStack() as opened:

        def add(title: str, way: Way) -> None:
            opened.callback(way.close)
            ways[title, way.name] = way

        add(REFERENCE_TITLE, InWorker("reference", partial(open_reference, canvas, threads), subjects[0].layouts))
        runs: set[Path] = set()
        for subject in subjects:
            if subject.run is not None and subject.run not in runs:  # once, whatever precisions it comes in
                runs.add(subject.run)
                add(subject.title, InWorker("eager", partial(open_eager, subject.run, threads), subject.layouts))
            session = partial(open_session, subject.bundle, threads)
            add(subject.title, InWorker("onnxruntime", session, subject.layouts))
            server = opened.enter_context(temporary_triton(subject.bundle, {MODEL_NAME: subject.settings}))
            for kind in (OverGrpc, ThroughSharedMemory):
                add(subject.title, kind(server.grpc_url, server.pid, MODEL_NAME, subject.layouts))
        for way in ways.values():
            way.draw(1, WARM_UP_CALLS)
        yield ways


def _measurement(title: str, canvas: Canvas, way: Way, clients: int, rounds: Sequence[Round]) -> Measurement:
    quantiles, pictures_per_s = pooled(rounds)
    memory = way.peak_memory_mb()
    calls = sum(len(each.latencies_ms) for each in rounds)
    rounded = None if memory is None else round(memory)
    turns = [Turn.of(each) for each in rounds]
    return Measurement(title, canvas, way.name, clients, calls, quantiles, pictures_per_s, rounded, turns)


def _record(subject: Subject) -> SubjectRecord:
    card = subject.card
    return SubjectRecord(
        title=subject.title,
        canvas=card.canvas,
        generator=card.generator,
        precision=card.precision,
        parameters=card.parameters,
        graph_sha256=card.graph_sha256,
        settings=subject.settings,
    )

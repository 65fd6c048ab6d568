"""Making generators of many scenes: each in a process of its own, on this machine or on a cluster."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import torch

from semia.core.errors import InputError, SemiaError
from semia.core.files import model_name_from_path
from semia.core.machine import usable_cores
from semia.training.copying.preparation import PreparationProgress, prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.loop import Progress, train
from semia.training.request import OpenedRun, TrainRequest
from semia.training.settings import TrainingSettings

NEWS_INTERVAL_S = 1.0
"""A job tells how it gets on every so many seconds."""


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    TRAINING = "training"
    PREPARING = "preparing"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Whether nothing more will come of the job in this call."""
        return self in (State.DONE, State.FAILED, State.INTERRUPTED)


@dataclass(frozen=True)
class Job:
    """One scene to make a generator of."""

    name: str  # the scene's; no two jobs of a fleet share one
    request: TrainRequest
    threads: int  # of the CPU


@dataclass(frozen=True)
class News:
    """How a job gets on."""

    name: str  # the job's
    state: State
    iteration: int = 0  # iterations of training done, of the run's whole life
    seconds: float = 0.0  # that it has been trained, likewise, or prepared
    left_s: float | None = None  # until it is done, about; None while nothing tells
    losses: Mapping[str, float] = field(default_factory=dict)  # of the last iteration
    stage: str = ""  # of the preparation
    note: str = ""  # one line: why it failed, or what else there is to say


class Engine(Protocol):
    """Starts jobs, each in a process of its own, and knows how they get on.

    As a context manager: what still runs at its end is killed.
    """

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *exception: object) -> None: ...

    def start(self, job: Job) -> None:
        """Have a job done, soon if not at once."""
        ...

    def stop(self) -> None:
        """Ask every job that was started to end soon; training keeps what it learnt."""
        ...

    def news(self) -> list[News]:
        """What is new, waiting a moment for it; the last of every job is final, however its process ends."""
        ...


def plan(requests: Sequence[TrainRequest], threads: int) -> list[Job]:
    """A job for every request.

    Args:
        requests: one for each scene.
        threads: CPU threads of each job.

    Raises:
        InputError: if a request contradicts itself, or two scenes have one name, or one has none.
    """
    jobs: dict[str, Job] = {}
    for request in requests:
        request.settings()
        name = request.name or model_name_from_path(request.scene)
        if name in jobs:
            raise InputError(
                f"{jobs[name].request.scene} and {request.scene} are both called {name!r}: "
                "rename a folder, or name them in two calls, each with a --run of its own"
            )
        jobs[name] = Job(name, request, threads)
    return list(jobs.values())


def threads_of_each(jobs_at_once: int) -> int:
    """CPU threads of each of so many jobs, when they divide this machine among them."""
    return max(1, usable_cores() // jobs_at_once)


def train_fleet(
    jobs: Sequence[Job],
    engine: Engine,
    *,
    at_once: int,
    tell: Callable[[News], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, News]:
    """Do all jobs; one that fails does not stop the others.

    Args:
        jobs: what to do, in this order.
        engine: where.
        at_once: how many jobs are started at a time.
        tell: told every news; of each job the last is final.
        should_stop: asked again and again; after a true answer no job is started, and those started are stopped.

    Returns:
        The final news of every job, by name.

    Raises:
        TrainingError: if the engine cannot work.
    """
    waiting, running = deque(jobs), set[str]()
    ended: dict[str, News] = {}

    def hear(news: News) -> None:
        if news.state.final:
            ended[news.name] = news
            running.discard(news.name)
        tell(news)

    stopping = False
    with engine:
        while waiting or running:
            if not stopping and should_stop():
                stopping = True
                engine.stop()
                while waiting:
                    hear(News(waiting.popleft().name, State.INTERRUPTED, note="not begun"))
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running.add(job.name)
                engine.start(job)
            for news in engine.news():
                if news.name in running:  # what a job said may arrive after its end
                    hear(news)
    return ended


def train_job(job: Job, tell: Callable[[News], None], should_stop: Callable[[], bool]) -> News:
    """Train or prepare one generator in this process, which is the job's own; what goes wrong is in the answer.

    Args:
        job: the scene.
        tell: told news meanwhile.
        should_stop: asked after every iteration, or whenever a preparation has news.

    Returns:
        The final news.
    """
    torch.set_num_threads(job.threads)
    try:
        with job.request.open_run() as opened:
            settings = opened.run.config.settings
            if isinstance(settings, CopyingSettings):
                return _prepare(job.name, opened, tell, should_stop)
            return _train(job.name, opened, settings, tell, should_stop)
    except SemiaError as error:
        return News(job.name, State.FAILED, note=" ".join(str(error).split()))
    except Exception as error:  # one scene's trouble, whatever it is, is not the others'
        return News(job.name, State.FAILED, note=f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")


def _prepare(name: str, opened: OpenedRun, tell: Callable[[News], None], should_stop: Callable[[], bool]) -> News:
    run = opened.run
    if run.finished:
        return News(name, State.DONE, note="was prepared already")
    tell(News(name, State.PREPARING))

    def on_progress(progress: PreparationProgress) -> None:
        tell(News(name, State.PREPARING, 0, progress.seconds, progress.left_s, stage=progress.stage))

    finished = prepare_run(run, opened.device, on_progress=on_progress, should_stop=should_stop)
    return News(name, State.DONE if finished else State.INTERRUPTED, seconds=run.preparation_s or 0.0)


def _train(
    name: str,
    opened: OpenedRun,
    settings: TrainingSettings,
    tell: Callable[[News], None],
    should_stop: Callable[[], bool],
) -> News:
    run = opened.run
    if run.finished:
        return News(name, State.DONE, run.iterations_done, run.seconds_done, note="was trained already")
    tell(News(name, State.TRAINING, run.iterations_done, run.seconds_done))
    finished = train(
        run,
        opened.device,
        patch_features=opened.patch_features,
        on_progress=_now_and_then(name, settings, tell),
        should_stop=should_stop,
    )
    return News(name, State.DONE if finished else State.INTERRUPTED, run.iterations_done, run.seconds_done)


def _now_and_then(name: str, settings: TrainingSettings, tell: Callable[[News], None]) -> Callable[[Progress], None]:
    told_at = -NEWS_INTERVAL_S

    def on_progress(progress: Progress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at < NEWS_INTERVAL_S:
            return
        told_at = time.monotonic()
        share = settings.progress(progress.iteration, progress.seconds)
        left_s = progress.seconds * (1 / share - 1)
        tell(News(name, State.TRAINING, progress.iteration, progress.seconds, left_s, progress.losses))

    return on_progress

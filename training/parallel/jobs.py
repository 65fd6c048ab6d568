"""Making generators of many scenes: each in a process of its own, on this machine or on a cluster."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import FrameType
from typing import Protocol

import torch

from semia.core.errors import InputError, SemiaError
from semia.core.files import model_name_from_path
from semia.core.machine import usable_cores
from semia.training.base import WorkProgress
from semia.training.request import OpenedRun, TrainRequest

STATUS_INTERVAL_S = 1.0  # between two statuses of a running job
LOCAL = "local"  # the address that starts a Ray for this call, on loopback

LOCAL_ENVIRONMENT = {
    # Otherwise it listens, without a password, on every address: single machines are what this says Windows runs.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anyone
}

POLL_S = 0.2  # how long to wait for a status at a time; as long a Ctrl-C may go unnoticed


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

    name: str  # the scene's; no two jobs share one
    request: TrainRequest
    threads: int  # of the CPU


@dataclass(frozen=True)
class JobStatus:
    """Where a job is, and how far."""

    name: str  # the job's
    state: State
    iteration: int = 0  # iterations of training done, of the run's whole life
    seconds: float = 0.0  # that it has been trained, likewise, or prepared
    left_s: float | None = None  # until it is done, about; None while nothing tells
    losses: Mapping[str, float] = field(default_factory=dict)  # of the last iteration
    stage: str = ""  # of the preparation
    note: str = ""  # one line: why it failed, or what else there is to say
    scene_notes: tuple[str, ...] = ()  # what of the scene's files was not taken as it stands, a line each; said once


class Engine(contextlib.AbstractContextManager["Engine"], Protocol):
    """Starts jobs, each in a process of its own, and collects their statuses.

    As a context manager: what still runs at its end is killed.
    """

    def start(self, job: Job) -> None:
        """Have a job done, soon if not at once."""
        ...

    def stop(self) -> None:
        """Ask every job that was started to end soon; training keeps what it learnt."""
        ...

    def poll(self) -> list[JobStatus]:
        """The statuses since the last call, after a moment's wait; each job's last is final, however it ends."""
        ...


def plan(requests: Sequence[TrainRequest], threads: int) -> list[Job]:
    """A job of so many CPU threads for every request.

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


def run_jobs(
    jobs: Sequence[Job],
    engine: Engine,
    *,
    at_once: int,
    on_status: Callable[[JobStatus], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, JobStatus]:
    """Run all jobs in their order, some at once; one that fails does not stop the others.

    ``on_status`` is told every status; of each job the last is final, and is what this returns by the job's name. After
    a true answer of ``should_stop``, which is asked again and again, no job is started, and those started are stopped.

    Raises:
        TrainingError: if the engine cannot work.
    """
    waiting, running = deque(jobs), set[str]()
    ended: dict[str, JobStatus] = {}

    def handle(status: JobStatus) -> None:
        if status.state.final:
            ended[status.name] = status
            running.discard(status.name)
        on_status(status)

    stopping = False
    with engine:
        while waiting or running:
            if not stopping and should_stop():
                stopping = True
                engine.stop()
                while waiting:
                    handle(JobStatus(waiting.popleft().name, State.INTERRUPTED, note="not begun"))
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running.add(job.name)
                engine.start(job)
            for status in engine.poll():
                if status.name in running:  # a status may arrive after the job's end
                    handle(status)
    return ended


def run_job(job: Job, on_status: Callable[[JobStatus], None], should_stop: Callable[[], bool]) -> JobStatus:
    """Train or prepare one generator in this process, which is the job's own; what goes wrong is in the answer.

    ``on_status`` is called with each status but the final one, which is returned; ``should_stop`` is asked after every
    iteration, or stage of a preparation.
    """
    torch.set_num_threads(job.threads)
    try:
        with job.request.open_run() as opened:
            return _carry_out(job, opened, on_status, should_stop)
    except SemiaError as error:
        return JobStatus(job.name, State.FAILED, note=" ".join(str(error).split()))
    except Exception as error:  # one scene's trouble, whatever it is, is not the others'
        return JobStatus(
            job.name, State.FAILED, note=f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        )


def _carry_out(
    job: Job, opened: OpenedRun, on_status: Callable[[JobStatus], None], should_stop: Callable[[], bool]
) -> JobStatus:
    run, prepares, told_at = opened.run, job.request.is_prepared, -STATUS_INTERVAL_S
    if run.finished:
        note = "was prepared already" if prepares else "was trained already"
        return JobStatus(job.name, State.DONE, run.iterations_done, run.seconds_done, note=note)
    begun = JobStatus(job.name, State.PREPARING if prepares else State.TRAINING, run.iterations_done, run.seconds_done)
    on_status(replace(begun, scene_notes=opened.scene.notes))

    def on_progress(at: WorkProgress) -> None:
        nonlocal told_at
        if prepares or time.monotonic() - told_at >= STATUS_INTERVAL_S:  # a preparation has few stages
            told_at = time.monotonic()
            on_status(JobStatus(job.name, begun.state, at.iteration, at.seconds, at.left_s, at.losses, at.stage))

    ended = State.DONE if opened.carry_out(on_progress, should_stop) else State.INTERRUPTED
    return JobStatus(job.name, ended, run.iterations_done, (run.preparation_s or 0.0) if prepares else run.seconds_done)


def prepare_environment(address: str) -> None:
    """Set the environment for an address; to be called before `semia.training.parallel.ray_engine` is imported.

    A cluster is left as those who run it set it up.
    """
    if address == LOCAL:
        os.environ.update(LOCAL_ENVIRONMENT)


class LocalEngine(contextlib.AbstractContextManager["LocalEngine"]):
    """Starts processes of `run_job`; they end with this one, however it dies; training keeps what it learnt.

    Processes rather than threads or one pool: a scene that runs out of memory or crashes takes no other with it, and
    what training does to a process (see `semia.training.machine`) ends with the scene.
    """

    def __init__(self, initializer: Callable[[], None] | None = None) -> None:
        """Make the engine; ``initializer``, which must be picklable, is called in each process before its work."""
        self._initializer = initializer
        self._workers: list[_Worker] = []

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def start(self, job: Job) -> None:
        """Start a process for the job."""
        self._workers.append(_Worker(job, self._initializer))

    def stop(self) -> None:
        """Ask every process to stop."""
        for worker in self._workers:
            worker.stop()

    def poll(self) -> list[JobStatus]:
        """The new statuses; a process that died has one that says so."""
        connection.wait([worker.pipe for worker in self._workers], POLL_S)
        statuses = [entry for worker in self._workers for entry in worker.poll()]
        self._workers = [worker for worker in self._workers if not worker.ended]
        return statuses


class _Worker:
    """A process that does one job, and the pipe to it."""

    def __init__(self, job: Job, initializer: Callable[[], None] | None) -> None:
        self.ended = False
        self._job = job
        self._sent_final = False
        # Spawned, not forked: a fork would inherit half of every library's threads.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, theirs, initializer), name=job.name)
        with _signals_blocked():
            self._process.start()
        theirs.close()  # so that either side notices when the other is gone

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # it may just have ended
            self.pipe.send("stop")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def poll(self) -> list[JobStatus]:
        statuses: list[JobStatus] = []
        try:
            while self.pipe.poll():
                statuses.append(self.pipe.recv())
                self._sent_final |= statuses[-1].state.final
        except (EOFError, OSError):
            self._process.join()
            self.pipe.close()
            self.ended = True
            if not self._sent_final:
                statuses.append(JobStatus(self._job.name, State.FAILED, note=self._exit_reason()))
        return statuses

    def _exit_reason(self) -> str:
        code = self._process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how} (out of memory?); the same command with --resume goes on"


def _serve(job: Job, pipe: Connection, initializer: Callable[[], None] | None) -> None:
    """The process: does the job, sends its status; stops when it is told to, by SIGTERM, or when its parent is gone."""
    terminated = threading.Event()

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        terminated.set()

    signal.signal(signal.SIGTERM, terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if initializer is not None:
        initializer()

    def on_status(status: JobStatus) -> None:
        with contextlib.suppress(OSError):  # the parent has ended, and so will this process
            pipe.send(status)

    on_status(run_job(job, on_status, lambda: terminated.is_set() or pipe.poll()))


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started within see neither Ctrl-C nor SIGHUP, which a terminal sends to all: their parent tells them.

    Nor SIGTERM, until they are ready for it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

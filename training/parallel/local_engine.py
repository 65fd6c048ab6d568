"""Jobs side by side on this machine, each in a process of its own."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import FrameType
from typing import Self

from semia.training.parallel.jobs import Job, JobStatus, State, run_job

POLL_S = 0.2
"""How long to wait for a status at a time; as long a Ctrl-C may go unnoticed."""


class LocalEngine:
    """Starts processes of `run_job`; they end with this one, however it dies; training keeps what it learnt.

    Processes rather than threads or one pool: a scene that runs out of memory or crashes takes no other with it, and
    what training does to a process (see `semia.training.machine`) ends with the scene.
    """

    def __init__(self, initializer: Callable[[], None] | None = None) -> None:
        """Make the engine.

        Args:
            initializer: called in each process before its work; must be picklable.
        """
        self._initializer = initializer
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

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

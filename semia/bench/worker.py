"""A process of its own that draws pictures and times itself: its memory and its threads are nobody else's."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from semia.bench.load import Draw, Round, closed_loop
from semia.core.errors import SemiaError
from semia.core.labels import ClassIds

STOP_AFTER_S = 5.0
"""How long a worker may take to end once it was told to."""


class Worker:
    """One drawing function in a process of its own, which ends with this one, however that dies."""

    def __init__(self, open_draw: Callable[[], Draw], layouts: Sequence[ClassIds]) -> None:
        """Start the process and wait until it is ready.

        Args:
            open_draw: makes the function, in the process; must be picklable, like a `functools.partial`.
            layouts: what will be drawn, in turn.

        Raises:
            SemiaError: with the reason, if the function cannot be made.
        """
        # Spawned, not forked: a fork would inherit memory and half of every library's threads.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, open_draw, layouts), daemon=True)
        self._process.start()
        theirs.close()  # so that either side notices when the other is gone
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None, "the process was started by the constructor"
        return self._process.pid

    def draw(self, clients: int, calls: int) -> Round:
        """`closed_loop` in the process, by so many threads that share the function.

        Raises:
            SemiaError: if drawing fails, or the process has ended.
        """
        answer = self._answer((clients, calls))
        assert isinstance(answer, Round)
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(STOP_AFTER_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self, request: tuple[int, int] | None = None) -> object:
        try:
            if request is not None:
                self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise SemiaError("a process that was to draw pictures has died: is there enough memory?") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Connection, open_draw: Callable[[], Draw], layouts: Sequence[ClassIds]) -> None:
    """The process: answers with None once it is ready, then with a `Round` for each request, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends the pipe
    try:
        draw = open_draw()
        pipe.send(None)
        while True:
            clients, calls = pipe.recv()
            pipe.send(closed_loop([draw] * clients, layouts, calls))
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # whatever it is, the parent has to say so
        pipe.send(error if isinstance(error, SemiaError) else SemiaError(f"{type(error).__name__}: {error}"))

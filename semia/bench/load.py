"""Load: clients that each ask for the next picture as soon as they have the last, here or in a process of their own."""

import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import NamedTuple

from semia.core.errors import SemiaError
from semia.core.labels import ClassIds

Draw = Callable[[ClassIds], object]
"""Asks for the picture of a layout ``uint8[H, W]`` and waits for it."""


class Round(NamedTuple):
    """What a number of calls in a row took."""

    latencies_ms: list[float]  # of each call, as its client saw it, in the order in which they ended
    seconds: float  # from the end of the last call before them to the end of the last of them


class _Call(NamedTuple):
    began: float
    ended: float


def closed_loop(clients: Sequence[Draw], layouts: Sequence[ClassIds], calls: int) -> Round:
    """Make calls, shared among clients that run at the same time, one thread each, and measure ``calls`` of them.

    As many calls as there are clients are made before those, and so many less one after them, and not measured: the
    first find caches that are another's and clients that begin all at once, the last a server with ever less to do.
    Clients may be one function several times, if threads may share it; layouts are asked for in turn.
    """
    lead = len(clients)
    numbers = iter(range(lead + calls + lead - 1))  # a client takes its next number; `next` on a range is atomic

    def work(draw: Draw) -> list[_Call]:
        made = []
        for number in numbers:
            began = time.perf_counter()
            draw(layouts[number % len(layouts)])
            made.append(_Call(began, time.perf_counter()))
        return made

    if lead == 1:
        made = work(clients[0])  # a thread would be one more thing to measure
    else:
        with ThreadPoolExecutor(lead) as threads:
            made = list(itertools.chain.from_iterable(threads.map(work, clients)))
    made.sort(key=lambda call: call.ended)
    measured = made[lead : lead + calls]
    return Round([1000 * (call.ended - call.began) for call in measured], measured[-1].ended - made[lead - 1].ended)


STOP_AFTER_S = 5.0
"""How long a worker may take to end once it was told to."""


class Worker:
    """One drawing function in a process of its own, which ends with this one, however that dies."""

    def __init__(self, open_draw: Callable[[], Draw], layouts: Sequence[ClassIds]) -> None:
        """Start the process and wait until it is ready to draw layouts, in turn.

        ``open_draw`` makes the function, in the process; it must be picklable, like a `functools.partial`.

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

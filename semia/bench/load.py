"""Load: clients that each ask for the next picture as soon as they have the last."""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

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

    Args:
        clients: one function a client; may be one function several times, if threads may share it.
        layouts: what is asked for, in turn.
        calls: how many calls of all clients together are measured.
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

"""Load: clients that each ask for the next picture as soon as they have the last."""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from semia.labels import ClassIds

Draw = Callable[[ClassIds], object]
"""Asks for the picture of a layout ``uint8[H, W]`` and waits for it."""


class Round(NamedTuple):
    """What a number of calls in a row took."""

    latencies_ms: list[float]  # of each call, as its client saw it
    seconds: float  # from the first call's begin to the last one's end


def closed_loop(clients: Sequence[Draw], layouts: Sequence[ClassIds], calls: int) -> Round:
    """Make ``calls`` calls, shared among clients that run at the same time, one thread each.

    Args:
        clients: one function a client; may be one function several times, if threads may share it.
        layouts: what is asked for, in turn.
        calls: how many calls all clients make together, at least as many as there are clients.
    """
    numbers = iter(range(calls))  # a client takes its next number; `next` on a range is atomic

    def work(draw: Draw) -> list[float]:
        latencies_ms = []
        for number in numbers:
            began = time.perf_counter()
            draw(layouts[number % len(layouts)])
            latencies_ms.append(1000 * (time.perf_counter() - began))
        return latencies_ms

    began = time.perf_counter()
    if len(clients) == 1:
        latencies_ms = work(clients[0])  # a thread would be one more thing to measure
    else:
        with ThreadPoolExecutor(len(clients)) as threads:
            latencies_ms = list(itertools.chain.from_iterable(threads.map(work, clients)))
    return Round(latencies_ms, time.perf_counter() - began)

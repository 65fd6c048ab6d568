"""Choosing instances, threads and batching for one model by measuring them, on the machine that will serve it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from semia.bench.measurement import count_rounds, take_turns
from semia.bench.records import pooled
from semia.bench.subjects import made_up_layouts
from semia.bench.ways import OverGrpc, Round, temporary_triton
from semia.core.machine import this_machine, usable_cores
from semia.core.model_card import CARD_FILE, ModelCard
from semia.serving.model_config import ServingSettings

CALLS = 50  # of every candidate, with one client and with many
MANY_CLIENTS = 8  # at once, when throughput is measured
LATENCY_TOLERANCE = 1.1  # a choice for throughput may cost a lone client so many times the best latency


@dataclass(frozen=True)
class Candidate:
    """One way of running a model, measured."""

    settings: ServingSettings
    median_ms: float  # latency of one client
    pictures_per_s: float  # of `MANY_CLIENTS`

    def __str__(self) -> str:
        return f"{self.settings}: {self.median_ms:.1f} ms, {self.pictures_per_s:.1f} pictures/s"


def candidates(cores: int) -> list[ServingSettings]:
    """What is worth trying on so many cores: all cores for each picture, or pictures side by side, or both."""
    half = max(1, cores // 2)
    shapes = dict.fromkeys([(1, cores), (2, cores), (2, half), (min(4, cores), max(1, cores // 4))])
    together = [ServingSettings(instances=instances, threads=threads) for instances, threads in shapes]
    return [*together, ServingSettings(threads=cores, batching=False)]


def tune(bundle: Path, tell: Callable[[str], None], on_turn: Callable[[int, str], None]) -> ServingSettings:
    """Measure the `candidates` over gRPC on a Triton of their own, and return the best, its reason included.

    ``tell`` is told what each candidate reached; ``on_turn``, after each of the `count_turns`, how many are over, and
    which that was.

    Raises:
        SemiaError: if the bundle is broken, or Triton cannot serve it.
    """
    layouts = made_up_layouts(ModelCard.read(bundle / CARD_FILE))
    settings = {f"candidate-{number}": each for number, each in enumerate(candidates(usable_cores()))}
    with ExitStack() as opened:
        server = opened.enter_context(temporary_triton(bundle, settings))
        ways = {model: OverGrpc(server.grpc_url, server.pid, model, layouts) for model in settings}
        for way in ways.values():
            opened.callback(way.close)
        rounds: dict[tuple[str, int], list[Round]] = defaultdict(list)
        for clients in (1, MANY_CLIENTS):
            for model, turn in take_turns(ways, clients, CALLS):
                rounds[model, clients].append(turn)
                on_turn(sum(map(len, rounds.values())), f"{settings[model]}, {clients} at once")
    measured = [
        Candidate(each, pooled(rounds[model, 1])[0]["50"], pooled(rounds[model, MANY_CLIENTS])[1])
        for model, each in settings.items()
    ]
    for candidate in measured:
        tell(str(candidate))
    return choose(measured)


def count_turns() -> int:
    """How many turns `tune` will have."""
    return sum(map(count_rounds, (1, MANY_CLIENTS))) * len(candidates(usable_cores()))


def choose(measured: Sequence[Candidate]) -> ServingSettings:
    """The most pictures per second among the candidates that answer a lone client about as soon as the fastest."""
    fastest = min(candidate.median_ms for candidate in measured)
    quick = [candidate for candidate in measured if candidate.median_ms <= LATENCY_TOLERANCE * fastest]
    best = max(quick, key=lambda candidate: candidate.pictures_per_s)
    others = "; ".join(str(candidate) for candidate in measured if candidate is not best)
    machine = this_machine()
    reason = (
        f"measured on {machine.cpu}, {machine.cores} cores, load {machine.load}: {best} with {MANY_CLIENTS} clients, "
        f"the most among those within {LATENCY_TOLERANCE - 1:.0%} of the best latency; {others}"
    )
    return replace(best.settings, reason=reason)

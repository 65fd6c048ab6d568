"""Many generators on one server, few of them in memory: answered by the right one, how soon, with how much memory.

It makes models out of a bundle, told apart by a constant that their pictures are combined with, has `semia serve
--max-loaded` serve them, and calls them at random, some far more often than others. Models, calls and their order
are the same in every run. For example, 200 models of which 8 may be in memory, called for three minutes:

    python -m tests.load.many_models demo/bundle --models 200 --max-loaded 8 --minutes 3
"""

import argparse
import dataclasses
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient

from semia.client import ClientError, SynthesisClient
from semia.core.model_card import CARD_FILE, ModelCard
from semia.serving import publish
from tests.load.tools import Observer, Picture, bands, color_key, draw, running_server, write_variant

QUIET_CALLS = 15
"""Models that are called once cold and once warm when nobody else calls."""

PAUSE_S = 2.0
"""Before each of these, for the model that made room for the last one to be gone."""


def publish_models(bundle: Path, count: int, repository: Path, workspace: Path) -> list[str]:
    """Publish so many variants of a bundle; returns their names."""
    card = ModelCard.read(bundle / CARD_FILE)
    names = [f"{card.name}-{number:03}" for number in range(count)]
    for number, name in enumerate(names):
        write_variant(bundle, workspace / name, name, number)
        publish(workspace / name, repository)
    return names


@dataclasses.dataclass
class Calls:
    """What one caller saw."""

    warm_s: list[float] = dataclasses.field(default_factory=list)  # the model was in memory before the call
    cold_s: list[float] = dataclasses.field(default_factory=list)  # it was not
    failures: list[str] = dataclasses.field(default_factory=list)
    wrong: int = 0  # pictures
    most_loaded: int = 0  # models in memory at once


class Caller:
    """Calls models and checks every picture."""

    def __init__(self, url: str, names: list[str], ids: Picture, base: Picture) -> None:
        self.calls = Calls()
        self._names, self._ids, self._base = names, ids, base
        self._client = SynthesisClient(url, timeout_s=120)
        self._triton = InferenceServerClient(url)

    def call(self, number: int) -> None:
        """Ask a model for its picture."""
        loaded = self.loaded()
        self.calls.most_loaded = max(self.calls.most_loaded, len(loaded))
        began = time.perf_counter()
        try:
            picture = np.asarray(self._client.synthesize(self._names[number], self._ids))
        except ClientError as error:
            self.calls.failures.append(f"{self._names[number]}: {error}")
            return
        seconds = time.perf_counter() - began
        (self.calls.warm_s if self._names[number] in loaded else self.calls.cold_s).append(seconds)
        self.calls.wrong += not np.array_equal(picture ^ color_key(number), self._base)

    def loaded(self) -> set[str]:
        """The names of the models that are in memory."""
        index = self._triton.get_model_repository_index(client_timeout=60).models
        return {entry.name for entry in index if entry.state == "READY" and not entry.reason}

    def call_at_random(self, until: float, seed: int) -> None:
        """Call until a moment of the monotonic clock, model number n with a frequency of 1 / (n + 1)."""
        chance = np.random.default_rng(seed)
        weights = 1.0 / np.arange(1, len(self._names) + 1)
        while time.monotonic() < until:
            self.call(int(chance.choice(len(self._names), p=weights / weights.sum())))


def quantiles_ms(seconds: list[float]) -> str:
    """Count, median and 95th percentile."""
    if not seconds:
        return "none"
    median, high = np.quantile(seconds, (0.5, 0.95)) * 1000
    return f"{len(seconds):5}  median {median:7.1f} ms  p95 {high:7.1f} ms"


def call_from_many(callers: list[Caller], observer: Observer, minutes: float) -> None:
    """Have all callers call at random at the same time, and the server observed."""
    until = time.monotonic() + 60 * minutes
    with observer.observing(), ThreadPoolExecutor(len(callers)) as pool:
        for result in [pool.submit(caller.call_at_random, until, seed) for seed, caller in enumerate(callers)]:
            result.result()


def call_one_by_one(caller: Caller, names: list[str]) -> None:
    """Cold calls with a full house and warm ones, with nobody else calling."""
    loaded = caller.loaded()
    cold = [number for number, name in enumerate(names) if name not in loaded]
    for number in cold[:QUIET_CALLS]:
        time.sleep(PAUSE_S)
        for _ in range(2):  # the second is warm
            caller.call(number)


def report(callers: list[Caller], alone: Caller, observer: Observer) -> None:
    """Print what callers and the observer saw."""
    calls = [caller.calls for caller in (*callers, alone)]
    failures = [failure for each in calls for failure in each.failures]
    answered = sum(len(each.warm_s) + len(each.cold_s) for each in calls)
    print(f"{answered} calls answered, {len(failures)} failed, {sum(each.wrong for each in calls)} wrong pictures")
    for failure in failures[:5]:
        print(f"  {failure}")
    print(f"{len(callers)} callers: warm {quantiles_ms([s for caller in callers for s in caller.calls.warm_s])}")
    print(f"           cold {quantiles_ms([s for caller in callers for s in caller.calls.cold_s])}")
    print(f"1 caller:  warm {quantiles_ms(alone.calls.warm_s)}")
    print(f"           cold {quantiles_ms(alone.calls.cold_s)}")
    most = max(sample.models for sample in observer.samples)
    print(f"most models in memory {max(each.most_loaded for each in calls)}, most processes of models {most}")
    print("  time  processes  models MB  Triton MB  serve MB")
    for sample in observer.samples[:: max(1, len(observer.samples) // 12)]:
        parts = "".join(f"{sample.megabytes[part]:11.0f}" for part in ("models", "Triton", "serve"))
        print(f"{sample.when_s:4.0f} s {sample.models:10}{parts}")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--max-loaded", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--callers", type=int, default=4)
    return parser.parse_args()


def main() -> None:
    """Publish, serve, call, print."""
    options = arguments()
    ids = bands(ModelCard.read(options.bundle / CARD_FILE))
    (base,) = draw(options.bundle, [ids])
    with tempfile.TemporaryDirectory(prefix="semia-many-") as folder:
        repository = Path(folder) / "model_repository"
        names = publish_models(options.bundle, options.models, repository, Path(folder))
        with running_server(repository, "--max-loaded", options.max_loaded) as server:
            print(f"{len(names)} models on disk, answering {server.start_s:.1f} s after the start")
            observer = Observer(server)
            callers = [Caller(server.url, names, ids, base) for _ in range(options.callers)]
            call_from_many(callers, observer, options.minutes)
            alone = Caller(server.url, names, ids, base)
            call_one_by_one(alone, names)
            report(callers, alone, observer)


if __name__ == "__main__":
    main()

"""Callers that must not notice: a new version every 30 seconds, other models coming and going, every picture checked.

It makes versions out of a bundle that draw in different colors, serves the first with `semia serve`, and has clients
call it without a pause, while the others are published into service one after the other, and side models are
loaded, called and unloaded all the time. Every picture is compared with what ONNX Runtime itself draws with the graph
of the version that answered. It exits with status 1 if a call failed or a picture was wrong. For example:

    python -m tests.load.load demo/bundle --minutes 10 --figures load.json --plot load.png
"""

import argparse
import dataclasses
import itertools
import json
import math
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from semia.client import ClientError, RetryOptions, SynthesisClient
from semia.core.machine import this_machine
from semia.core.model_card import CARD_FILE, ModelCard
from semia.serving import ServingError, load_model, publish, publish_and_load, unload_model
from tests.load.report import Call, Observations, Span, print_report, summarize, write_plot
from tests.load.tools import Observer, Picture, Server, bands, draw, running_server, write_variant

TARGETS = 4
"""Label maps that are called with in turn."""

SIDE_MODELS = 3
SIDE_NUMBER = 1000
"""Variants from this one on are side models; those before are versions."""

SIDE_PAUSE_S = 3.0
"""With none of them in memory, to see its size without them: an unloaded model's process ends a second or two late."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything that would disturb the measurement if it were made meanwhile."""

    name: str  # of the model that is called
    versions: list[Path]  # their bundles; the first is version 1
    side_models: list[Path]  # bundles named like their models
    targets: list[Picture]
    expected: dict[tuple[str, str], list[Picture]]  # of each target, by the name of the model and its version


@dataclasses.dataclass(frozen=True)
class CountedRetries(RetryOptions):
    """A client's usual repetitions, noted."""

    began: float = 0.0
    noted: list[float] = dataclasses.field(default_factory=list)

    def waits_s(self) -> Iterator[float]:
        """As usual; asked for the next one only when an attempt has failed."""
        for wait_s in super().waits_s():
            self.noted.append(time.monotonic() - self.began)
            yield wait_s


def prepare(bundle: Path, count: int, repository: Path, workspace: Path) -> Prepared:
    """Make versions and side models, publish the first, and draw what is expected of all."""
    card = ModelCard.read(bundle / CARD_FILE)
    targets = [bands(card, turn / TARGETS) for turn in range(TARGETS)]
    versions, expected = [], {}
    for version in range(1, count + 1):
        versions.append(workspace / f"version-{version}")
        write_variant(bundle, versions[-1], card.name, version)
        expected[card.name, str(version)] = draw(versions[-1], targets)
    publish(versions[0], repository)
    side_models = [workspace / f"{card.name}-side-{side}" for side in range(SIDE_MODELS)]
    for number, side_model in enumerate(side_models, SIDE_NUMBER):
        write_variant(bundle, side_model, side_model.name, number)
        expected[side_model.name, "1"] = draw(side_model, targets)
    for pictures in zip(*expected.values(), strict=True):
        if len({picture.tobytes() for picture in pictures}) < len(expected):
            raise SystemExit("two versions draw the same: a wrong picture would not be noticed")
    return Prepared(card.name, versions, side_models, targets, expected)


class Load:
    """All that goes on during a run; its methods run side by side, each in a thread of its own, until it is over."""

    def __init__(self, server: Server, prepared: Prepared, repository: Path) -> None:
        self.seen = Observations(server.instances)
        self.over = threading.Event()
        self._prepared, self._repository, self._url = prepared, repository, server.url
        self._observer = Observer(server)
        self._retries = CountedRetries(began=self._observer.began, noted=self.seen.repetitions)
        self.seen.samples = self._observer.samples

    def run(self, seconds: float, callers: int, every_s: float) -> None:
        """Have everybody at work for so long."""
        with ThreadPoolExecutor(callers + 2) as pool:
            work = [pool.submit(self.call, number) for number in range(callers)]
            work += [pool.submit(self.publish_versions, every_s), pool.submit(self.load_and_unload)]
            try:
                with self._observer.observing():
                    self.over.wait(seconds)
            finally:
                self.over.set()
            for each in work:
                each.result()

    def call(self, number: int) -> None:
        """Call the model without a pause, as one client."""
        targets = self._prepared.targets

        def endless() -> Iterator[Picture]:
            for turn in itertools.count(number):
                if self.over.is_set():
                    return
                yield targets[turn % len(targets)]

        with SynthesisClient(self._url, retries=self._retries) as client:
            for outcome in client.synthesize_many(self._prepared.name, endless(), concurrency=1):
                if outcome.error is not None:
                    self._fail(f"caller {number}: {outcome.error}")
                    continue
                self.seen.calls.append(Call(self._now(), outcome.duration_s, int(outcome.version)))
                self._check(
                    self._prepared.name,
                    outcome.version,
                    (number + outcome.index) % len(targets),
                    np.asarray(outcome.picture),
                )

    def publish_versions(self, every_s: float) -> None:
        """Publish the next version into service every so many seconds."""
        for turn, bundle in enumerate(self._prepared.versions[1:], 1):
            if self.over.wait(turn * every_s - self._now()):
                return
            began_s = self._now()
            try:
                update = publish_and_load(bundle, self._repository, self._url)
            except ServingError as error:
                self._fail(f"update {turn}: {error}")
                return  # version numbers would no longer be those expected
            self.seen.updates.append(Span(began_s, self._now(), f"version {update.published.version}"))

    def load_and_unload(self) -> None:
        """Load side models, have each draw a picture, and unload it."""
        for side_model in self._prepared.side_models:  # not before the server's start, or it would load them
            publish(side_model, self._repository)
        with SynthesisClient(self._url, retries=self._retries) as client:
            for turn, side_model in enumerate(itertools.cycle(self._prepared.side_models)):
                if self.over.wait(SIDE_PAUSE_S):
                    return
                began_s, name, target = self._now(), side_model.name, turn % TARGETS
                try:
                    load_model(self._url, name)
                    self.seen.side_loads_s.append(self._now() - began_s)
                    picture = client.synthesize(name, self._prepared.targets[target])
                    self._check(name, "1", target, np.asarray(picture))
                    unload_model(self._url, name)
                except (ClientError, ServingError) as error:
                    self._fail(f"side model: {error}")
                    continue
                self.seen.side_models.append(Span(began_s, self._now(), name))

    def _check(self, name: str, version: str, target: int, picture: Picture) -> None:
        expected = self._prepared.expected.get((name, version))
        if expected is None or not np.array_equal(picture, expected[target]):
            self.seen.wrong.append((self._now(), f"{name} version {version} drew another picture of target {target}"))

    def _fail(self, what: str) -> None:
        self.seen.failures.append((self._now(), what))

    def _now(self) -> float:
        return time.monotonic() - self._observer.began


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--every", type=float, default=30.0, help="seconds from one new version to the next")
    parser.add_argument("--figures", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw latency and memory over time into this file")
    return parser.parse_args()


def main() -> None:
    """Prepare, serve, load, print."""
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped, too
    seconds = 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="semia-load-") as folder:
        repository = Path(folder) / "model_repository"
        began = time.monotonic()
        prepared = prepare(options.bundle, math.ceil(seconds / options.every), repository, Path(folder))
        print(f"{len(prepared.versions)} versions made in {time.monotonic() - began:.0f} s", flush=True)
        with running_server(repository) as server:
            load = Load(server, prepared, repository)
            load.run(seconds, options.callers, options.every)
    figures = {"machine": dataclasses.asdict(this_machine()), "minutes_asked": options.minutes}
    figures |= {"callers": options.callers, "every_s": options.every}
    figures |= summarize(load.seen, options.minutes, options.every)
    print_report(figures)
    if options.figures is not None:
        options.figures.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.plot is not None:
        machine = this_machine()
        title = f"{prepared.name}, {options.callers} clients, {machine.cpu}, {machine.cores} cores"
        write_plot(options.plot, figures, title)
    raise SystemExit(1 if figures["failed"] or figures["wrong"] else 0)


if __name__ == "__main__":
    main()

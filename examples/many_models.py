"""Many generators on one server, few of them in memory: answered by the right one, how soon, with how much memory.

It makes models out of a bundle, told apart by a constant that their pictures are combined with, has `semia serve
--max-loaded` serve them, and calls them at random, some far more often than others. Models, calls and their order
are the same in every run. For example, 200 models of which 8 may be in memory, called for three minutes:

    python examples/many_models.py demo/bundle --models 200 --max-loaded 8 --minutes 3
"""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tritonclient.grpc import InferenceServerClient

from client import ClientError, SynthesisClient
from semia.files import sha256_of_file
from semia.model_card import CARD_FILE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME, ModelCard
from serving import ServerOptions, ServerUnreachableError, model_states, publish

SAMPLE_S = 0.5
"""Between two looks at the server's memory."""

QUIET_CALLS = 15
"""Models that are called once cold and once warm when nobody else calls."""

PAUSE_S = 2.0
"""Before each of these, for the model that made room for the last one to be gone."""

Picture = NDArray[np.uint8]


def colour_key(number: int) -> NDArray[np.uint8]:
    """What the pixels of model number so-and-so are combined with by exclusive or."""
    return np.array([number % 256, number // 256, number * 37 % 256], np.uint8)


def publish_models(bundle: Path, count: int, repository: Path, workspace: Path) -> list[str]:
    """Publish so many variants of a bundle; returns their names."""
    card = ModelCard.read(bundle / CARD_FILE)
    names = [f"{card.name}-{number:03}" for number in range(count)]
    for number, name in enumerate(names):
        model = onnx.load(bundle / MODEL_FILE)
        for node in model.graph.node:
            for place, output in enumerate(node.output):
                if output == OUTPUT_NAME:
                    node.output[place] = "picture"
        model.graph.initializer.append(numpy_helper.from_array(colour_key(number), "colour_key"))
        model.graph.node.append(helper.make_node("BitwiseXor", ["picture", "colour_key"], [OUTPUT_NAME]))
        variant = workspace / name
        variant.mkdir()
        onnx.save(model, variant / MODEL_FILE)
        sha256 = sha256_of_file(variant / MODEL_FILE)
        dataclasses.replace(card, name=name, graph_sha256=sha256).write(variant / CARD_FILE)
        publish(variant, repository)
    return names


def draw(bundle: Path, ids: Picture) -> Picture:
    """The picture of the bundle itself."""
    session = onnxruntime.InferenceSession(bundle / MODEL_FILE, providers=["CPUExecutionProvider"])
    picture: Picture = session.run([OUTPUT_NAME], {INPUT_NAME: ids[np.newaxis]})[0][0]
    return picture


def children_of(parent: int) -> list[int]:
    """The process ids of a process's children."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def memory_mb(pid: int) -> float:
    """A process's share of the memory: pages that several use are divided among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class Observer:
    """The server's memory, processes and models in memory, looked at again and again."""

    def __init__(self, serve: int, triton: int) -> None:
        self.samples: list[tuple[float, int, dict[str, float]]] = []  # when; children of Triton; MB of each part
        self._serve, self._triton = serve, triton
        self._began = time.monotonic()

    def look(self) -> None:
        """Take a sample, unless a process ends just then."""
        try:
            stubs = children_of(self._triton)
            parts = {"front": memory_mb(self._serve), "Triton": memory_mb(self._triton)}
            parts["models"] = sum(memory_mb(stub) for stub in stubs)
        except (FileNotFoundError, ProcessLookupError):
            return
        self.samples.append((time.monotonic() - self._began, len(stubs), parts))


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
        self.calls.wrong += not np.array_equal(picture ^ colour_key(number), self._base)

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
    done = threading.Event()

    def observe() -> None:
        while not done.wait(SAMPLE_S):
            observer.look()

    with ThreadPoolExecutor(len(callers) + 1) as pool:
        observing = pool.submit(observe)
        try:
            for result in [pool.submit(caller.call_at_random, until, seed) for seed, caller in enumerate(callers)]:
                result.result()
        finally:
            done.set()
        observing.result()


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
    most = max(children for _, children, _ in observer.samples)
    print(f"most models in memory {max(each.most_loaded for each in calls)}, most processes of models {most}")
    print("  time  processes  models MB  Triton MB  front MB")
    for when, children, megabytes in observer.samples[:: max(1, len(observer.samples) // 12)]:
        parts = "".join(f"{megabytes[part]:11.0f}" for part in ("models", "Triton", "front"))
        print(f"{when:4.0f} s {children:10}{parts}")


def wait_for(url: str, serve: "subprocess.Popen[bytes]") -> None:
    """Return when the server answers."""
    while serve.poll() is None:
        try:
            model_states(url)
        except ServerUnreachableError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not start")


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
    card = ModelCard.read(options.bundle / CARD_FILE)
    rows = np.linspace(0, len(card.palette), card.canvas_height, endpoint=False).astype(np.uint8)
    ids = np.repeat(rows[:, np.newaxis], card.canvas_width, axis=1)  # a band of each class
    base = draw(options.bundle, ids)
    with tempfile.TemporaryDirectory(prefix="semia-many-") as folder:
        repository = Path(folder) / "model_repository"
        names = publish_models(options.bundle, options.models, repository, Path(folder))
        ports = ServerOptions.on_free_ports()
        command = [sys.executable, "-m", "semia", "serve", "--repository", repository]
        command += ["--max-loaded", options.max_loaded]
        command += ["--grpc-port", ports.grpc_port, "--metrics-port", ports.metrics_port]
        began = time.monotonic()
        with subprocess.Popen([str(part) for part in command]) as serve:
            try:
                url = f"127.0.0.1:{ports.grpc_port}"
                wait_for(url, serve)
                print(f"{len(names)} models on disk, answering {time.monotonic() - began:.1f} s after the start")
                observer = Observer(serve.pid, *children_of(serve.pid))
                callers = [Caller(url, names, ids, base) for _ in range(options.callers)]
                call_from_many(callers, observer, options.minutes)
                alone = Caller(url, names, ids, base)
                call_one_by_one(alone, names)
                report(callers, alone, observer)
            finally:
                serve.terminate()


if __name__ == "__main__":
    main()

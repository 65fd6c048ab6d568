"""What the load tests have in common: variants of a bundle told apart by color, a server, and a look at its memory."""

import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME, ModelCard
from semia.serving import ServerOptions, ServerUnreachableError, model_states

SAMPLE_S = 0.5
"""Between two looks at the server's memory."""

Picture = NDArray[np.uint8]


def color_key(number: int) -> NDArray[np.uint8]:
    """What the pixels of variant number so-and-so are combined with by exclusive or."""
    return np.array([number % 256, number // 256, number * 37 % 256], np.uint8)


def write_variant(bundle: Path, folder: Path, name: str, number: int) -> None:
    """Write a bundle that draws the same as another one in other colors."""
    model = onnx.load(bundle / MODEL_FILE)
    for node in model.graph.node:
        for place, output in enumerate(node.output):
            if output == OUTPUT_NAME:
                node.output[place] = "picture"
    model.graph.initializer.append(numpy_helper.from_array(color_key(number), "color_key"))
    model.graph.node.append(helper.make_node("BitwiseXor", ["picture", "color_key"], [OUTPUT_NAME]))
    folder.mkdir()
    onnx.save(model, folder / MODEL_FILE)
    card = ModelCard.read(bundle / CARD_FILE)
    sha256 = sha256_of_file(folder / MODEL_FILE)
    dataclasses.replace(card, name=name, graph_sha256=sha256).write(folder / CARD_FILE)


def bands(card: ModelCard, shift: float = 0.0) -> Picture:
    """A label map with a band of each class, moved down by a share of its height."""
    rows = np.linspace(0, len(card.palette), card.canvas_height, endpoint=False).astype(np.uint8)
    rows = np.roll(rows, round(shift * card.canvas_height))
    return np.repeat(rows[:, np.newaxis], card.canvas_width, axis=1)


def draw(bundle: Path, targets: list[Picture]) -> list[Picture]:
    """What ONNX Runtime itself draws with a bundle."""
    session = onnxruntime.InferenceSession(bundle / MODEL_FILE, providers=["CPUExecutionProvider"])
    return [session.run([OUTPUT_NAME], {INPUT_NAME: ids[np.newaxis]})[0][0] for ids in targets]


@dataclasses.dataclass(frozen=True)
class Server:
    """A running `semia serve`."""

    url: str  # HOST:PORT of its gRPC interface
    pid: int  # of the command
    triton: int  # its child
    start_s: float  # until it answered
    instances: int  # processes of models when it did


@contextlib.contextmanager
def running_server(repository: Path, *options: object) -> Iterator[Server]:
    """Run `semia serve` in a process of its own, on free ports."""
    ports = ServerOptions.on_free_ports()
    command = [sys.executable, "-m", "semia", "serve", "--repository", repository, *options]
    command += ["--grpc-port", ports.grpc_port, "--metrics-port", ports.metrics_port]
    url, began = f"{ports.host}:{ports.grpc_port}", time.monotonic()
    with subprocess.Popen([str(part) for part in command]) as serve:
        try:
            _wait_for(url, serve)
            (triton,) = _children_of(serve.pid)
            yield Server(url, serve.pid, triton, time.monotonic() - began, len(_children_of(triton)))
        finally:
            serve.terminate()


def _wait_for(url: str, serve: "subprocess.Popen[bytes]") -> None:
    while serve.poll() is None:
        try:
            model_states(url)
        except ServerUnreachableError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not start")


def _children_of(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _memory_mb(pid: int) -> tuple[float, float]:
    """A process's share of the memory, pages that several use being divided among them; then without files' pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    megabytes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return megabytes["Pss"], megabytes["Pss"] - megabytes["Pss_File"]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One look at the server."""

    when_s: float  # since the observer was made
    models: int  # processes of models
    megabytes: dict[str, float]  # of all of these, of Triton, and of the command: "models", "Triton", "serve"
    own_megabytes: dict[str, float]  # without pages of files, whose division depends on what else runs on the machine


class Observer:
    """The server's memory, looked at again and again."""

    def __init__(self, server: Server) -> None:
        self.began = time.monotonic()
        self.samples: list[Sample] = []
        self._server = server

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        """Look every now and then until the ``with`` block ends."""
        done = threading.Event()

        def observe() -> None:
            while not done.wait(SAMPLE_S):
                self._look()

        thread = threading.Thread(target=observe)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _look(self) -> None:
        """Take a sample, unless a process ends just then."""
        try:
            models = _children_of(self._server.triton)
            parts = {"models": models, "Triton": [self._server.triton], "serve": [self._server.pid]}
            memory = {part: [_memory_mb(process) for process in processes] for part, processes in parts.items()}
        except (FileNotFoundError, ProcessLookupError):
            return
        megabytes, own = ({part: sum(each[i] for each in memory[part]) for part in memory} for i in range(2))
        self.samples.append(Sample(time.monotonic() - self.began, len(models), megabytes, own))

"""The ways to a picture that are compared: PyTorch, ONNX Runtime, Triton over gRPC, Triton through shared memory.

Each is asked by clients that want the next picture as soon as they have the last.
"""

import abc
import contextlib
import functools
import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from semia.client import SynthesisClient
from semia.client.shared_memory import Region
from semia.core.errors import SemiaError
from semia.core.labels import Canvas, ClassIds
from semia.core.machine import peak_memory_mb, process_tree
from semia.core.staging import temporary_directory
from semia.serving.model_config import ServingSettings
from semia.serving.repository.lifecycle import publish
from semia.serving.triton.options import ServerOptions
from semia.serving.triton.server import TritonServer

CALL_TIMEOUT_S = 120.0  # of one call, the wait behind other clients included; machines under measurement may be busy
STOP_AFTER_S = 5.0  # how long a worker may take to end once it was told to

WayName = Literal["reference", "eager", "onnxruntime", "grpc", "shared memory"]
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


class InWorker:
    """A drawing function in a process of its own, which ends with this one, however that dies."""

    def __init__(self, name: WayName, open_draw: Callable[[], Draw], layouts: Sequence[ClassIds]) -> None:
        """Start the process and wait until it is ready to draw layouts, in turn.

        ``open_draw`` makes the function, in the process; it must be picklable, like a `functools.partial`.

        Raises:
            SemiaError: with the reason, if the function cannot be made.
        """
        self.name = name
        self.takes_many = name == "onnxruntime"  # whether several clients at once make sense
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

    def peak_memory_mb(self) -> float | None:
        """The largest memory that the process has taken so far."""
        return peak_memory_mb([self.pid])

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


class Served(abc.ABC):
    """A model served on this machine, asked by any number of clients, each with a connection of its own."""

    name: WayName
    takes_many = True

    def __init__(self, url: str, server: int, model: str, layouts: Sequence[ClassIds]) -> None:
        """Find the server at ``url``, whose process id is ``server``; clients connect as they are needed."""
        self._url, self._server, self._model, self._layouts = url, server, model, layouts
        self._clients: list[Draw] = []
        self._opened = contextlib.ExitStack()

    def draw(self, clients: int, calls: int) -> Round:
        """As `InWorker.draw`."""
        try:
            while len(self._clients) < clients:
                self._clients.append(self._open_client())
            return closed_loop(self._clients[:clients], self._layouts, calls)
        except InferenceServerException as error:
            raise SemiaError(f"Triton refused a call through shared memory: {error.message()}") from error

    def peak_memory_mb(self) -> float | None:
        """Of Triton and its backend's processes, not of the clients."""
        return peak_memory_mb(process_tree(self._server))

    def close(self) -> None:
        """Disconnect, and give shared memory back."""
        self._opened.close()

    @abc.abstractmethod
    def _open_client(self) -> Draw: ...


class OverGrpc(Served):
    """A served model, asked by our own client."""

    name = "grpc"

    def _open_client(self) -> Draw:
        client = SynthesisClient(self._url, timeout_s=CALL_TIMEOUT_S, shared_memory=False)
        self._opened.enter_context(client).synthesize(self._model, self._layouts[0])  # connects, learns the palette
        return functools.partial(client.synthesize, self._model)


class ThroughSharedMemory(Served):
    """A served model, asked over gRPC, with the layouts and pictures in memory that both sides see."""

    name = "shared memory"

    def _open_client(self) -> Draw:
        """One connection with a region of its own."""
        options = [("grpc.enable_http_proxy", 0)]
        triton = self._opened.enter_context(InferenceServerClient(self._url, channel_args=options))
        region = Region(Canvas(*self._layouts[0].shape))
        self._opened.callback(region.close)
        try:
            key = f"/{region.name}"
            triton.register_system_shared_memory(region.name, key, region.size, client_timeout=CALL_TIMEOUT_S)
        finally:
            region.remove_name()
        self._opened.callback(triton.unregister_system_shared_memory, region.name, client_timeout=CALL_TIMEOUT_S)
        target, image = region.tensors()

        def draw(ids: ClassIds) -> object:
            region.write(ids)
            triton.infer(self._model, [target], outputs=[image], client_timeout=CALL_TIMEOUT_S)
            return region.picture()

        return draw


Way = InWorker | Served


def open_eager(run: Path, threads: int) -> Draw:
    """A run's generator in PyTorch, as `semia render` uses it."""
    import torch

    from semia.training.run_folder import RunFolder

    torch.set_num_threads(threads)
    return RunFolder.open(run).load_generator().renderer()


def open_session(bundle: Path, threads: int) -> Draw:
    """A bundle's graph in one session, as Triton's backend makes it."""
    from semia.core.model_card import MODEL_FILE
    from semia.export.session import OnnxRenderer

    return OnnxRenderer(bundle / MODEL_FILE, threads=threads)


def open_reference(canvas: Canvas, threads: int) -> Draw:
    """The published architecture in PyTorch, untrained, with everything computed for every picture."""
    import torch

    from semia.training.published.generator import Generator
    from semia.training.settings import PAPER
    from semia.training.tensors import padded_length

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    generator = Generator.from_settings(PAPER).eval()
    size = [padded_length(length, PAPER.multiple) for length in canvas]
    # What is in the pictures and the weights does not matter to the time of dense convolutions.
    image, source_labels, target_labels = torch.rand(3, 1, 3, *size).mul(2).sub(1)

    def forward(_: ClassIds) -> object:
        with torch.no_grad():
            return generator(image, source_labels, target_labels)

    return forward


@contextlib.contextmanager
def temporary_triton(bundle: Path, models: Mapping[str, ServingSettings]) -> Iterator[TritonServer]:
    """Serve a bundle under each of several names, each run in its own way, until the block ends.

    Raises:
        ServingError: if the bundle cannot be published, or Triton cannot be started.
    """
    with temporary_directory("measuring") as folder:
        repository = folder / "model_repository"
        for name, settings in models.items():
            publish(bundle, repository, name=name, settings=settings)
        with TritonServer(repository, ServerOptions.on_free_ports()) as server:
            yield server

"""The ways to a picture that are compared: PyTorch, ONNX Runtime, Triton over gRPC, Triton through shared memory."""

import abc
import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, shared_memory

from semia.bench.load import Draw, Round, Worker, closed_loop
from semia.client import SynthesisClient
from semia.core.errors import SemiaError
from semia.core.labels import Canvas, ClassIds
from semia.core.machine import peak_memory_mb, process_tree
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.core.staging import temporary_directory
from semia.serving.model_config import ServingSettings
from semia.serving.repository.layout import publish
from semia.serving.triton.options import ServerOptions
from semia.serving.triton.server import TritonServer

CALL_TIMEOUT_S = 120.0
"""Of one call, the wait behind other clients included; machines under measurement may be busy."""

WayName = Literal["reference", "eager", "onnxruntime", "grpc", "shared memory"]


class InWorker(Worker):
    """A drawing function in a process of its own."""

    def __init__(self, name: WayName, open_draw: Callable[[], Draw], layouts: Sequence[ClassIds]) -> None:
        """As `Worker`."""
        super().__init__(open_draw, layouts)
        self.name = name

    @property
    def takes_many(self) -> bool:
        """Whether several clients at once make sense."""
        return self.name == "onnxruntime"

    def peak_memory_mb(self) -> float | None:
        """The largest memory that the process has taken so far."""
        return peak_memory_mb([self.pid])


def eager_way(run: Path, layouts: Sequence[ClassIds], threads: int) -> InWorker:
    """The run's generator in PyTorch, as `semia render` uses it."""
    return InWorker("eager", functools.partial(_open_eager, run, threads), layouts)


def onnxruntime_way(bundle: Path, layouts: Sequence[ClassIds], threads: int) -> InWorker:
    """The bundle's graph in one session, as Triton's backend makes it."""
    return InWorker("onnxruntime", functools.partial(_open_session, bundle, threads), layouts)


def reference_way(canvas: Canvas, layouts: Sequence[ClassIds], threads: int) -> InWorker:
    """The published architecture in PyTorch, untrained, with everything computed for every picture."""
    return InWorker("reference", functools.partial(_open_reference, canvas, threads), layouts)


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
        """As `Worker.draw`."""
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
        """One connection with two regions of its own, one for the layout and one for the picture."""
        height, width = self._layouts[0].shape
        triton = self._opened.enter_context(
            InferenceServerClient(self._url, channel_args=[("grpc.enable_http_proxy", 0)])
        )
        target, image = InferInput(INPUT_NAME, [1, height, width], "UINT8"), InferRequestedOutput(OUTPUT_NAME)
        regions, prefix = [], f"semia-bench-{os.getpid()}-{self._url.rpartition(':')[2]}"
        for tensor, size in ((target, height * width), (image, height * width * 3)):
            # The port tells servers apart whose models have the same name.
            name = f"{prefix}-{self._model}-{len(self._clients)}-{tensor.name()}"
            region = shared_memory.create_shared_memory_region(name, f"/{name}", size, create_only=True)
            self._opened.callback(shared_memory.destroy_shared_memory_region, region)
            triton.register_system_shared_memory(name, f"/{name}", size, client_timeout=CALL_TIMEOUT_S)
            self._opened.callback(triton.unregister_system_shared_memory, name, client_timeout=CALL_TIMEOUT_S)
            tensor.set_shared_memory(name, size)
            regions.append(region)

        def draw(ids: ClassIds) -> object:
            shared_memory.set_shared_memory_region(regions[0], [ids[np.newaxis]])
            triton.infer(self._model, [target], outputs=[image], client_timeout=CALL_TIMEOUT_S)
            return shared_memory.get_contents_as_numpy(regions[1], np.uint8, [height, width, 3])

        return draw


Way = InWorker | Served


def _open_eager(run: Path, threads: int) -> Draw:
    import torch

    from semia.training.run_folder import RunFolder

    torch.set_num_threads(threads)
    return RunFolder.open(run).load_generator().renderer()


def _open_session(bundle: Path, threads: int) -> Draw:
    from semia.core.model_card import MODEL_FILE
    from semia.export.session import OnnxRenderer

    return OnnxRenderer(bundle / MODEL_FILE, threads=threads)


def _open_reference(canvas: Canvas, threads: int) -> Draw:
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

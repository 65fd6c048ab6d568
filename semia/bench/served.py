"""A real Triton for a short while: free loopback ports, a repository that goes with it."""

import contextlib
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.model_config import ServingSettings
from serving.repository import publish
from serving.server import ServerOptions, TritonServer


@contextlib.contextmanager
def temporary_triton(bundle: Path, models: Mapping[str, ServingSettings]) -> Iterator[TritonServer]:
    """Serve a bundle under each of several names, each run in its own way, until the block ends.

    Raises:
        ServingError: if the bundle cannot be published, or Triton cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="semia-bench-") as folder:
        repository = Path(folder) / "model_repository"
        for name, settings in models.items():
            publish(bundle, repository, name=name, settings=settings)
        with TritonServer(repository, _options_on_free_ports()) as server:
            yield server


def _options_on_free_ports() -> ServerOptions:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        grpc_port, http_port, metrics_port = (probe.getsockname()[1] for probe in sockets)
    return ServerOptions(grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port)

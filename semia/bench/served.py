"""A real Triton for a short while: free loopback ports, a repository that goes with it."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.model_config import ServingSettings
from serving.repository import publish
from serving.server import TritonServer
from serving.server_options import ServerOptions


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
        with TritonServer(repository, ServerOptions.on_free_ports()) as server:
            yield server

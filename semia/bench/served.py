"""A real Triton for a short while: free loopback ports, a repository that goes with it."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from semia.core.staging import temporary_directory
from semia.serving.model_config import ServingSettings
from semia.serving.repository.layout import publish
from semia.serving.triton.options import ServerOptions
from semia.serving.triton.server import TritonServer


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

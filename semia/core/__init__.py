"""What all rooms share: label maps, palettes, images, the model card, safe files, connections, errors.

And, here, what holds unless told otherwise, for the functions of Python and the options of the command alike.
"""

from pathlib import Path

__version__ = "0.1.0"

RUNS_FOLDER = Path("runs")
BUNDLES_FOLDER = Path("bundles")
REPOSITORY_FOLDER = Path("model_repository")
"""Where runs, bundles and models go."""

LOOPBACK = "127.0.0.1"
GRPC_PORT, METRICS_PORT = 8001, 8002
DEFAULT_URL = f"{LOOPBACK}:{GRPC_PORT}"
"""Where a server listens, and where it is asked."""

DEFAULT_TOLERANCE = 2
"""Of 255, from PyTorch's pictures: rounding may fall the other way twice; more would be visible."""

DEFAULT_WIDTH = 280
"""Pixels at which pictures are judged; figures of other widths do not compare."""

DEFAULT_KEEP = 3
"""Versions that stay on the disk when a new one is in service: it, and two to roll back to."""

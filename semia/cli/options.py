"""Options that several sub-commands share, so that each is spelt and explained once."""

from pathlib import Path
from typing import Annotated

import typer

RUNS_FOLDER = Path("runs")
BUNDLES_FOLDER = Path("bundles")
DEFAULT_REPOSITORY = Path("model_repository")
DEFAULT_URL = "127.0.0.1:8001"

SceneArgument = Annotated[
    Path, typer.Argument(metavar="SCENE", help="Scene folder: img.*, label.*, and target layouts in cond/.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder made by `semia train` or `semia import`.")]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", help="Name of the served model: a-z, 0-9, - and _; by default made from the scene folder's."
    ),
]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder to make or resume; by default runs/NAME.")]
BundleOption = Annotated[Path | None, typer.Option("--bundle", help="Bundle folder to make; by default bundles/NAME.")]
RepositoryOption = Annotated[Path, typer.Option("--repository", help="Triton's model repository.")]
ToleranceOption = Annotated[
    int,
    typer.Option(
        "--tolerance",
        min=0,
        max=255,
        help="Largest difference from PyTorch of any pixel, of 255; beyond it the export fails.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads of one model instance; by default all cores of the server."),
]
UrlOption = Annotated[str, typer.Option("--url", help="gRPC address of the server, host:port.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.001, help="Deadline of one call, in seconds.")]

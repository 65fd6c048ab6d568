"""Options that several sub-commands share, so that each is spelt and explained once."""

from pathlib import Path
from typing import Annotated

import typer

from semia.core.model_card import Precision

DEFAULT_URL = "127.0.0.1:8001"


def _folder(path: Path) -> Path:
    if str(path).startswith("s3:"):
        raise typer.BadParameter("only `semia publish` and `semia serve` take an object store; this needs a folder")
    return path


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
RepositoryOption = Annotated[
    Path,
    typer.Option("--repository", help="Triton's model repository, a folder.", callback=_folder),
]
AnyRepositoryOption = Annotated[
    str,
    typer.Option(
        "--repository",
        metavar="FOLDER|s3://BUCKET/PREFIX",
        help="Triton's model repository: a folder, or a place in an object store.",
    ),
]
ToleranceOption = Annotated[
    int,
    typer.Option(
        "--tolerance",
        min=0,
        max=255,
        help="Largest difference from PyTorch of any pixel, of 255; beyond it the export fails.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="What the graph computes in. fp16 and bf16 are for GPUs, int8 is for CPUs; the copying generator "
        "has only fp32. A lower one must draw nearly the same as fp32, and faster.",
    ),
]
MinPsnrOption = Annotated[
    float | None,
    typer.Option(
        "--min-psnr",
        min=0,
        help="Least PSNR, in dB, of a lower precision's pictures to fp32's; by default 45 for fp16, 40 for bf16, "
        "35 for int8.",
    ),
]
AnotherMachineOption = Annotated[
    bool,
    typer.Option(
        "--for-another-machine",
        help="The bundle will run elsewhere, such as on a GPU: a lower precision need not be faster here.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads of one model instance; by default all cores of the server."),
]
UrlOption = Annotated[str, typer.Option("--url", help="gRPC address of the server, host:port.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.001, help="Deadline of one call, in seconds.")]
ChangeClassesOption = Annotated[
    bool,
    typer.Option("--change-classes", help="Publish also if class ids mean other classes than in the version before."),
]
LoadOption = Annotated[
    str | None,
    typer.Option(
        "--load",
        metavar="URL",
        help="Also have the server at this gRPC address load the new version and draw one picture with it; if that "
        "fails, the version is taken back and the old one goes on serving.",
    ),
]
KeepOption = Annotated[
    int, typer.Option("--keep", min=1, help="Versions that stay on the disk once a new one is in service.")
]

"""Options that several sub-commands share, so that each is spelt and explained once."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semia.core.model_card import Precision

if TYPE_CHECKING:
    from semia.core.access import ServerAccess

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
    typer.Option(help="Name of the served model: a-z, 0-9, - and _; by default made from the scene folder's."),
]
RunOption = Annotated[Path | None, typer.Option(help="Run folder to make or resume; by default runs/NAME.")]
BundleOption = Annotated[Path | None, typer.Option(help="Bundle folder to make; by default bundles/NAME.")]
RepositoryOption = Annotated[
    Path,
    typer.Option(help="Triton's model repository, a folder.", callback=_folder),
]
AnyRepositoryOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|s3://BUCKET/PREFIX", help="Triton's model repository: a folder, or a place in an object store."
    ),
]
ToleranceOption = Annotated[
    int,
    typer.Option(
        min=0, max=255, help="Largest difference from PyTorch of any pixel, of 255; beyond it the export fails."
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help="What the graph computes in. fp16 and bf16 are for GPUs, int8 is for CPUs; the copying generator "
        "has only fp32. A lower one must draw nearly the same as fp32, and faster."
    ),
]
MinPsnrOption = Annotated[
    float | None,
    typer.Option(
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
    typer.Option(min=1, help="CPU threads of one model instance; by default all cores of the server."),
]
CONNECTION_PANEL = "Connection"

UrlOption = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", envvar="SEMIA_URL", help="gRPC address of the server.", rich_help_panel=CONNECTION_PANEL
    ),
]
OptionalUrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        envvar="SEMIA_URL",
        help="gRPC address of the server of this repository; without it, the repository alone is looked at or changed.",
        rich_help_panel=CONNECTION_PANEL,
    ),
]
TimeoutOption = Annotated[float, typer.Option(min=0.001, help="Deadline of one call, in seconds.")]
ChangeClassesOption = Annotated[
    bool,
    typer.Option("--change-classes", help="Also if class ids mean other classes than in the version before."),
]
LoadOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        "--load",
        metavar="HOST:PORT",
        rich_help_panel=CONNECTION_PANEL,
        help="Also have the server at this gRPC address load the new version and draw one picture with it; if that "
        "fails, the version is taken back and the old one goes on serving.",
    ),
]
KeepOption = Annotated[int, typer.Option(min=1, help="Versions that stay on the disk once a new one is in service.")]


def option_group(parameter: str, build: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give commands a group of options in place of one parameter.

    Args:
        parameter: of the command, keyword-only, which takes what ``build`` makes.
        build: makes it from the options, which are its own keyword-only parameters.
    """
    options = inspect.signature(build).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            group = {name: values.pop(name) for name in options}
            command(**values, **{parameter: build(**group)})

        # Typer reads signatures: of the command's own, without ``parameter``, and of the options.
        own = [value for name, value in inspect.signature(command).parameters.items() if name != parameter]
        signature = inspect.Signature([*own, *options.values()])
        with_options.__signature__ = signature  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
        return with_options

    return decorate


def _connection_option(flag: str, help_text: str) -> Any:
    variable = "SEMIA_" + flag.removeprefix("--").replace("-", "_").upper()
    return typer.Option(flag, help=help_text, envvar=variable, rich_help_panel=CONNECTION_PANEL)


def _server_access(
    *,
    tls: Annotated[
        bool,
        _connection_option("--tls", "Encrypt the connection; a public authority signed the server's certificate."),
    ] = False,
    tls_ca: Annotated[
        Path | None, _connection_option("--tls-ca", "PEM file: who signed the server's certificate. Turns TLS on.")
    ] = None,
    tls_cert: Annotated[
        Path | None, _connection_option("--tls-cert", "PEM file: our certificate, for a server that asks for one.")
    ] = None,
    tls_key: Annotated[Path | None, _connection_option("--tls-key", "PEM file: the private key of --tls-cert.")] = None,
    admin_key_file: Annotated[
        Path | None, _connection_option("--admin-key-file", "File that holds the key of the server's operators.")
    ] = None,
) -> "ServerAccess":
    """TLS, None for a plain-text connection, and the admin key."""
    from semia.core.access import ServerAccess, TlsOptions, read_admin_key

    encrypted = tls or any(path is not None for path in (tls_ca, tls_cert, tls_key))
    return ServerAccess(
        TlsOptions(tls_ca, tls_cert, tls_key) if encrypted else None,
        None if admin_key_file is None else read_admin_key(admin_key_file),
    )


connection_options = option_group("access", _server_access)
"""Gives a command that takes ``access``, a `ServerAccess`, the options, and environment variables, that make one up."""

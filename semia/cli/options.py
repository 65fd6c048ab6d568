"""How commands declare their options, and those that several share, so that each is spelt and explained once.

A command's docstring has a section "Options:", an entry a parameter, as other functions have "Args:".
"""

import copy
import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from semia.core.access import ServerAccess

Command = TypeVar("Command", bound=Callable[..., Any])

CONNECTION_PANEL = "Connection"
SECTION = "\n\nOptions:\n"


def _folder(path: Path) -> Path:
    if str(path).startswith("s3:"):
        raise typer.BadParameter("only `semia publish` and `semia serve` take an object store; this needs a folder")
    return path


def _repository(location: str) -> str:
    """What is no repository is said before minutes of work."""
    from semia.serving import is_object_store
    from semia.serving.repository.layout import check_is_repository

    if not is_object_store(location):
        check_is_repository(Path(location), may_be_missing=True)
    return location


Count = Annotated[int, typer.Option(min=1)]
OptionalCount = Annotated[int | None, typer.Option(min=1)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN")]
RepositoryOption = Annotated[Path, typer.Option(help="Triton's model repository, a folder.", callback=_folder)]
AnyRepositoryOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|s3://BUCKET/PREFIX",
        help="Triton's model repository: a folder, or a place in an object store.",
        callback=_repository,
    ),
]
ToleranceOption = Annotated[int, typer.Option(min=0, max=255)]
MinPsnrOption = Annotated[float | None, typer.Option(min=0)]
TimeoutOption = Annotated[float, typer.Option(min=0.001)]
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
LoadOption = Annotated[
    str | None, typer.Option("--url", "--load", metavar="HOST:PORT", rich_help_panel=CONNECTION_PANEL)
]

SHARED = """

Options:
    bundle: Bundle folder to make; by default bundles/NAME.
    change_classes: Also if class ids mean other classes than in the version before.
    for_another_machine: The bundle will run elsewhere, such as on a GPU: a lower precision need not be faster here.
    keep: Versions that stay on the disk once a new one is in service.
    load: Also have the server at this gRPC address load the new version and draw one picture with it; if that fails,
        the version is taken back and the old one goes on serving.
    min_psnr: Least PSNR, in dB, of a lower precision's pictures to fp32's; by default 45 for fp16, 40 for bf16, 35 for
        int8.
    name: Name of the served model: a-z, 0-9, - and _; by default made from the scene folder's.
    precision: What the graph computes in. fp16 and bf16 are for GPUs, int8 is for CPUs; the copying generator has only
        fp32. A lower one must draw nearly the same as fp32, and faster.
    run: Run folder made by `semia train` or `semia import`.
    scene: Scene folder with the photograph to judge against. A model needs one, for it holds no photograph; for a run
        it is by default the photograph it was made of, which --resize may have made smaller.
    targets: Folder of label maps; by default the scene's own cond/.
    threads: CPU threads of one model instance; by default all cores of the server.
    timeout: Deadline of one call, in seconds.
    tolerance: Largest difference from PyTorch of any pixel, of 255; beyond it the export fails.
    width: Pixels of width at which pictures are judged. Figures of different widths do not compare; seams takes 16
        times as long at twice the width.
"""
"""What options mean that several commands have, where a command's own docstring does not say otherwise."""


def explained(command: Command) -> Command:
    """Have Typer explain a command's parameters by the section "Options:" of its docstring, and it by the rest.

    A parameter that is explained is an argument if it has no default, a flag if it is a `bool`, else an option.
    """
    _declare(command, _explained_parameters(command))
    return command


def option_group(
    parameter: str, build: Callable[..., Any], *, panel: str | None = None, variables: str | None = None
) -> Callable[[Command], Command]:
    """Give commands, which this makes `explained`, a group of options in place of one parameter.

    Args:
        parameter: of the command, keyword-only, which takes what ``build`` makes.
        build: makes it from the options, which are its own keyword-only parameters, all of them explained likewise.
        panel: of the help, in which the options are.
        variables: how the environment variables begin that stand for the options.
    """
    options = _explained_parameters(build)
    for each in options:
        (info,) = each.annotation.__metadata__
        info.rich_help_panel = panel
        info.envvar = variables and variables + each.name.upper()

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            group = {each.name: values.pop(each.name) for each in options}
            command(**values, **{parameter: build(**group)})

        own = [each for each in _explained_parameters(command) if each.name != parameter]
        _declare(with_options, [*own, *options])
        return with_options  # type: ignore[return-value]  # Typer, its only caller, reads the signature set here

    return decorate


def _declare(command: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """What Typer reads of a command: its signature, its annotations, its docstring."""
    command.__doc__ = (inspect.getdoc(command) or "").partition(SECTION)[0]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # `inspect` takes it from any callable
    command.__annotations__ = {each.name: each.annotation for each in parameters}


def _explained_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    own, shared = _explanations(inspect.getdoc(function) or ""), _explanations(SHARED)
    return [
        _explained(each, own.get(each.name), shared.get(each.name))
        for each in inspect.signature(function).parameters.values()
    ]


def _explanations(docstring: str) -> dict[str, str]:
    """The entries of the section "Options:" by name, each in one line."""
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", docstring.partition(SECTION)[2], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _explained(parameter: inspect.Parameter, own: str | None, shared: str | None) -> inspect.Parameter:
    """A parameter as Typer wants it; one that nothing explains stays as it is."""
    if own is None and shared is None:
        return parameter
    kind = parameter.annotation
    if details := getattr(kind, "__metadata__", ()):
        kind, info = kind.__origin__, copy.copy(details[0])
    elif parameter.default is inspect.Parameter.empty:
        info = typer.Argument()
    else:
        info = typer.Option(f"--{parameter.name.replace('_', '-')}") if kind is bool else typer.Option()
    info.help = own or info.help or shared
    return parameter.replace(annotation=Annotated[kind, info])


def _server_access(
    *,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    admin_key_file: Path | None = None,
) -> "ServerAccess":
    """TLS, None for a plain-text connection, and the admin key.

    Options:
        tls: Encrypt the connection; a public authority signed the server's certificate.
        tls_ca: PEM file: who signed the server's certificate. Turns TLS on.
        tls_cert: PEM file: our certificate, for a server that asks for one.
        tls_key: PEM file: the private key of --tls-cert.
        admin_key_file: File that holds the key of the server's operators.
    """
    from semia.core.access import ServerAccess, TlsOptions, read_admin_key

    encrypted = tls or any(path is not None for path in (tls_ca, tls_cert, tls_key))
    return ServerAccess(
        TlsOptions(tls_ca, tls_cert, tls_key) if encrypted else None,
        None if admin_key_file is None else read_admin_key(admin_key_file),
    )


connection_options = option_group("access", _server_access, panel=CONNECTION_PANEL, variables="SEMIA_")
"""Gives a command that takes ``access``, a `ServerAccess`, the options, and environment variables, that make one up."""

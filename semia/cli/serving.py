"""``semia serve``: Triton in the foreground."""

import ipaddress
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer
from rich.table import Table

from semia.cli.console import complain, say, stdout
from semia.cli.options import DEFAULT_REPOSITORY, AnyRepositoryOption
from semia.errors import SemiaError


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("serve")(serve)


def serve(
    repository: AnyRepositoryOption = str(DEFAULT_REPOSITORY),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Beyond loopback everyone who reaches it may use it.")
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="Port of the gRPC interface.")] = 8001,
    http_port: Annotated[int, typer.Option("--http-port", help="Port of the HTTP interface.")] = 8000,
    metrics_port: Annotated[int, typer.Option("--metrics-port", help="Port of the Prometheus metrics.")] = 8002,
    triton: Annotated[
        Literal["auto", "embedded", "system"],
        typer.Option("--triton", help="From the package index, tritonserver on PATH, or the first that is there."),
    ] = "auto",
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds until all models must be loaded.")] = 120.0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Have Triton log every request.")] = False,
) -> None:
    """Run Triton on the model repository until Ctrl-C.

    It listens on loopback alone unless told otherwise, with no encryption and no passwords. Of a repository in an
    object store it serves a local copy, made at the start.
    """
    from serving import ServerOptions, TritonServer

    options = ServerOptions(
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        binary=triton,
        timeout_s=timeout,
        log_verbose=verbose,
    )
    if not _is_loopback(host):
        complain(
            f"warning: everyone who reaches {host} may use and change this server; for networks, run the stock "
            "Triton container behind TLS (the embedded one is for this machine alone)"
        )
    signal.signal(signal.SIGTERM, _interrupt)  # a service manager's stop is as good as Ctrl-C
    say(f"starting Triton on {repository}")
    with TritonServer(_local(repository), options) as server:
        table = Table(box=None)
        table.add_column("model")
        table.add_column("version", justify="right")
        for name, version in sorted(server.models.items()):
            table.add_row(name, str(version))
        stdout.print(table)
        for name, problem in sorted(server.failed_models.items()):
            complain(f"cannot serve {name}: {problem}")
        say(
            f"serving on gRPC {server.grpc_url}, HTTP {host}:{http_port}, metrics {host}:{metrics_port}; "
            f"log {server.log_path}; Ctrl-C stops"
        )
        try:
            code = server.wait()
        except KeyboardInterrupt:
            say("stopping")
            return
    raise SemiaError(f"Triton ended by itself with exit code {code}")


def _local(repository: str) -> Path:
    """The repository as a folder: itself, or the local copy of one in an object store, brought up to date."""
    from serving import ObjectRepository, cache_folder, is_object_store, mirror

    if not is_object_store(repository):
        return Path(repository)
    source = ObjectRepository(repository)
    copy, problems = mirror(source, cache_folder(source.url))
    for problem in problems.values():
        complain(f"not copied from {source.url}: {problem}")
    return copy


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

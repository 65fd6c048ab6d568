"""``semia serve``: Triton in the foreground."""

import ipaddress
import logging
import signal
import time
from types import FrameType
from typing import Annotated, Literal

import typer
from rich.table import Table

from semia.cli.console import complain, record, say, show
from semia.cli.options import DEFAULT_REPOSITORY, RepositoryOption
from semia.errors import SemiaError


def register(app: typer.Typer) -> None:
    """Add this room's sub-commands."""
    app.command("serve")(serve)


def serve(
    repository: RepositoryOption = DEFAULT_REPOSITORY,
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

    It listens on loopback alone unless told otherwise, with no encryption and no passwords.
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
            "Triton container behind TLS (the embedded one is for this machine alone)",
            "exposed",
            logging.WARNING,
        )
    signal.signal(signal.SIGTERM, _interrupt)  # a service manager's stop is as good as Ctrl-C
    began = time.monotonic()
    say(f"starting Triton on {repository}", "server_starting", repository=repository)
    with TritonServer(repository, options) as server:
        table = Table(box=None)
        table.add_column("model")
        table.add_column("version", justify="right")
        for name, version in sorted(server.models.items()):
            table.add_row(name, str(version))
            record("model_loaded", model=name, version=version)
        show(table)
        for name, problem in sorted(server.failed_models.items()):
            complain(f"cannot serve {name}: {problem}", "model_failed", model=name)
        say(
            f"serving on gRPC {server.grpc_url}, HTTP {host}:{http_port}, metrics {host}:{metrics_port}; "
            f"log {server.log_path}; Ctrl-C stops",
            "server_ready",
            grpc=server.grpc_url,
            http=f"{host}:{http_port}",
            metrics=f"{host}:{metrics_port}",
            path=server.log_path,
            duration_s=time.monotonic() - began,
        )
        try:
            code = server.wait()
        except KeyboardInterrupt:
            code = None
            say("stopping", "server_stopping")
    record("server_stopped", duration_s=time.monotonic() - began)
    if code is not None:
        raise SemiaError(f"Triton ended by itself with exit code {code}")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

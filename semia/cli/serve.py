"""``semia serve``: Triton in the foreground."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from semia.cli.console import figures_table, log_event, print_error, print_info, print_view
from semia.cli.options import AnyRepositoryOption, OptionalCount
from semia.core import GRPC_PORT, LOOPBACK, METRICS_PORT, REPOSITORY_FOLDER
from semia.core.errors import InputError, SemiaError

if TYPE_CHECKING:
    from semia.serving import ServerOptions, ServerTls


def serve(
    repository: AnyRepositoryOption = str(REPOSITORY_FOLDER),
    host: str = LOOPBACK,
    grpc_port: int = GRPC_PORT,
    http_port: int | None = None,
    metrics_port: int = METRICS_PORT,
    triton: Literal["auto", "embedded", "system"] = "auto",
    timeout: float = 120.0,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_client_ca: Path | None = None,
    admin_key_file: Path | None = None,
    max_loaded: OptionalCount = None,
    verbose: bool = False,
) -> None:
    """Run Triton on the model repository until Ctrl-C.

    It listens on loopback alone unless told otherwise, with no encryption and no passwords unless asked for. Of a
    repository in an object store it serves a local copy, made at the start.

    Options:
        host: Address to listen on. Beyond loopback everyone who reaches it may use it.
        grpc_port: Port of the gRPC interface.
        http_port: Serve HTTP, too, on this port; one hostile request over it can end the embedded Triton. Not with TLS
            or --max-loaded.
        metrics_port: Port of the Prometheus metrics.
        triton: From the package index, tritonserver on PATH, or the first that is there.
        timeout: Seconds until all models must be loaded.
        tls_cert: PEM file: the server's certificate. Turns TLS on.
        tls_key: PEM file: the private key of --tls-cert.
        tls_client_ca: PEM file: admit only clients with a certificate signed by these.
        admin_key_file: File with a key that loading models and other changes to the server then need. Triton takes it
            as an argument: other users of this machine can see it.
        max_loaded: Load models when they are called and keep at most so many in memory: the least recently used makes
            room. Without it, all are loaded at the start.
        verbose: Have Triton log every request.
    """
    from semia.serving import ServerOptions, TritonServer
    from semia.serving.triton.options import join_address

    options = ServerOptions(
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        binary=triton,
        timeout_s=timeout,
        log_verbose=verbose,
        tls=_server_tls(tls_cert, tls_key, tls_client_ca),
        admin_key_file=admin_key_file,
        max_loaded=max_loaded,
    )
    if not options.only_loopback:
        _warn(options)
    began = time.monotonic()
    print_info(f"starting Triton on {repository}", "server_starting", repository=repository)
    with TritonServer(_local(repository), options) as server:
        table = figures_table("model", "version")
        for name, version in sorted(server.models.items()):
            table.add_row(name, str(version))
            log_event("model_loaded" if max_loaded is None else "model_found", model=name, version=version)
        if max_loaded is None:
            print_view(table)
        else:
            count = len(server.models)
            what = f"{count} models, at most {max_loaded} in memory: each is loaded when it is called"
            print_info(what, "models_found", models=count, max_loaded=max_loaded)
        for name, problem in sorted(server.failed_models.items()):
            print_error(f"cannot serve {name}: {problem}", "model_failed", model=name)
        addresses = {service: join_address(host, port) for service, (host, port) in options.addresses.items()}
        listening = ", ".join(f"{service} {address}" for service, address in addresses.items())
        what = f"serving on {listening}{_requirements(options)}; log {server.log_path}; Ctrl-C stops"
        ready = {service.lower(): address for service, address in addresses.items()}
        print_info(what, "server_ready", **ready, path=server.log_path, duration_s=time.monotonic() - began)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            code = None
            print_info("stopping", "server_stopping")
    log_event("server_stopped", duration_s=time.monotonic() - began)
    if code is not None:
        raise SemiaError(f"Triton ended by itself with exit code {code}")


def _server_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> "ServerTls | None":
    from semia.serving import ServerTls

    if certificate is not None and key is not None:
        return ServerTls(certificate, key, client_ca)
    if certificate is not None or key is not None or client_ca is not None:
        raise InputError("TLS needs both --tls-cert and --tls-key; --tls-client-ca adds mutual TLS to them")
    return None


def _requirements(options: "ServerOptions") -> str:
    """What callers need besides the address."""
    requirements = []
    if options.tls is not None:
        requirements.append("TLS" if options.tls.client_ca is None else "mutual TLS")
    if options.admin_key_file is not None:
        requirements.append("admin key")
    return f" ({', '.join(requirements)})" if requirements else ""


def _warn(options: "ServerOptions") -> None:
    """Say what those who reach the server may do, as far as it is more than they should."""
    warnings = []
    if options.tls is None:
        warnings.append(f"nothing is encrypted, and everyone who reaches {options.host} may use this server")
    elif options.tls.client_ca is None:
        warnings.append(f"everyone who reaches {options.host} may use this server (--tls-client-ca restricts that)")
    if options.binary != "system":
        advice = "for networks, run the stock Triton container on this repository"
        warnings.append(f"the embedded Triton is of an old version with known vulnerabilities: {advice}")
    for warning in warnings:
        print_error(f"warning: {warning}", "exposed", logging.WARNING)


def _local(repository: str) -> Path:
    """The repository as a folder: itself, or the local copy of one in an object store, brought up to date."""
    from semia.serving import ObjectRepository, cache_folder, is_object_store, mirror

    if not is_object_store(repository):
        return Path(repository)
    source = ObjectRepository(repository)
    copy, problems = mirror(source, cache_folder(source.url))
    for problem in problems.values():
        print_error(f"not copied from {source.url}: {problem}", "model_failed", logging.WARNING)
    return copy

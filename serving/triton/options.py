"""How the server is run: addresses, ports, which Triton, whom it admits."""

import contextlib
import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from semia.core.errors import InputError
from semia.serving.errors import PortTakenError
from semia.serving.triton.tls import ServerTls

LOOPBACK = "127.0.0.1"

Binary = Literal["auto", "embedded", "system"]
"""Which Triton to run: the wheel's, the ``tritonserver`` on PATH, or the first of these two that is there."""


def find_free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass(frozen=True)
class ServerOptions:
    """How the server is run. Without ``tls`` nothing is encrypted and everyone is admitted: stay on loopback then.

    HTTP is off unless it is given a port: one hostile request over it can end the embedded Triton, and Triton has
    no TLS for it. With ``tls`` the metrics, which can only be read, stay on loopback.
    """

    host: str = LOOPBACK  # IPv4 address, or name of one, to listen on
    grpc_port: int = 8001
    http_port: int | None = None  # None: no HTTP; not with `tls`, which it would lead round, nor with `max_loaded`
    metrics_port: int = 8002
    binary: Binary = "auto"
    timeout_s: float = 120.0  # from starting the process to every model being warm
    log_verbose: bool = False  # Triton logs every request
    tls: ServerTls | None = None  # None: plain text
    admin_key_file: Path | None = None  # calls that change the server need the key in it; None: everyone may make them
    max_loaded: int | None = None  # models in memory, loaded when called; None: all, loaded at the start

    def __post_init__(self) -> None:
        for service, port in self.ports.items():
            if not 1 <= port <= 65535:
                raise InputError(f"{service} port must be 1 to 65535, not {port}")
        if len(set(self.ports.values())) < len(self.ports):
            raise InputError(f"{', '.join(self.ports)} need different ports, not {[*self.ports.values()]}")
        if self.binary not in get_args(Binary):
            raise InputError(f"binary must be one of {', '.join(get_args(Binary))}, not {self.binary!r}")
        if self.timeout_s <= 0:
            raise InputError(f"timeout_s must be positive, not {self.timeout_s}")
        if self.max_loaded is not None and self.max_loaded < 1:
            raise InputError(f"max_loaded must be at least 1, not {self.max_loaded}")
        if self.http_port is not None and self.tls is not None:
            raise InputError("Triton has no TLS for HTTP, which would lead round it: drop the HTTP port, or TLS")
        if self.http_port is not None and self.max_loaded is not None:
            raise InputError("models are loaded when called over gRPC alone: drop the HTTP port, or max_loaded")
        if self.admin_key_file is None and not self.only_loopback:
            raise InputError(
                f"whoever reaches {self.host} could load a model with code of their own: keep that to yourself with an "
                "admin key (--admin-key-file)"
            )
        if self.tls is not None:
            self.tls.check()

    @classmethod
    def on_free_ports(cls) -> Self:
        """Options with loopback ports for gRPC and metrics that nobody listens on now."""
        grpc_port, metrics_port = find_free_ports(2)
        return cls(grpc_port=grpc_port, metrics_port=metrics_port)

    @property
    def only_loopback(self) -> bool:
        """Whether nobody on another machine reaches the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the name of their service."""
        http = {} if self.http_port is None else {"HTTP": self.http_port}
        return {"gRPC": self.grpc_port, **http, "metrics": self.metrics_port}

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """What is listened on, by the name of the service."""
        addresses = {service: (self.host, port) for service, port in self.ports.items()}
        return addresses if self.tls is None else addresses | {"metrics": (LOOPBACK, self.metrics_port)}


DEFAULT_OPTIONS = ServerOptions()


def check_ports(options: ServerOptions) -> None:
    """Make sure that nothing listens on the ports yet; Triton's own complaint would name only the first.

    Raises:
        PortTakenError: if something does.
        InputError: if this machine has no such address.
    """
    for service, (host, port) in options.addresses.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server just stopped leaves it
            try:
                probe.bind((host, port))
            except PermissionError:
                raise InputError(f"{service} port {port} is reserved for root: choose one above 1023") from None
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTakenError(
                        f"{service} port {port} is taken on {host}: stop what listens there, "
                        f"or choose another with --{service.lower()}-port"
                    ) from None
                raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from error

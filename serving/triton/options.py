"""How the server is run: addresses, ports, which Triton, TLS, whom it admits; and what Triton is told of that."""

import contextlib
import datetime
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

from semia.core import GRPC_PORT, LOOPBACK, METRICS_PORT
from semia.core.access import TlsOptions, load_certificate
from semia.core.errors import InputError
from semia.serving.errors import PortTakenError

if TYPE_CHECKING:
    import grpc


CONTROL_CERTIFICATE_DAYS = 3650  # longer than any server runs; the certificate's key is gone when it stops
EXIT_TIMEOUT_S = 10  # how long requests in flight may delay a stopping server

GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What a usable NVIDIA driver leaves in /dev: on Linux, and on Windows' Linux."""

Binary = Literal["auto", "embedded", "system"]
"""Which Triton to run: the wheel's, the ``tritonserver`` on PATH, or the first of these two that is there."""


@dataclass(frozen=True)
class ServerTls:
    """The server's certificate, and whose clients it admits. The files are PEM; Triton reads them at its start."""

    certificate: Path  # the server's, with any intermediate ones after it; clients check its names
    key: Path  # its private key, without a passphrase
    client_ca: Path | None = None  # who signs the certificates that callers need (mutual TLS); None: they need none

    def check(self) -> None:
        """Make sure that Triton will take the files, for its own complaint does not say what is wrong.

        Raises:
            InputError: if one is missing or not PEM, or the key is encrypted or of another certificate.
        """
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.certificate, self.key)
        if self.client_ca is not None:
            TlsOptions(root_certificate=self.client_ca).context()


@dataclass(frozen=True)
class PreparedTls:
    """TLS with the files it is carried out with, and what opens the server to the process that starts it."""

    certificate: Path
    key: Path
    admitted: Path | None  # who signs clients' certificates, this process's own among them; None: clients need none
    control: TlsOptions

    @property
    def arguments(self) -> dict[str, str]:
        """For Triton."""
        arguments = {
            "grpc-use-ssl": "true",
            "grpc-server-cert": str(self.certificate),
            "grpc-server-key": str(self.key),
        }
        mutual = {"grpc-use-ssl-mutual": "true", "grpc-root-cert": str(self.admitted)}
        return arguments if self.admitted is None else arguments | mutual

    def credentials(self) -> "grpc.ServerCredentials":
        """For a gRPC server of our own."""
        import grpc

        roots = None if self.admitted is None else self.admitted.read_bytes()
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)


def prepare_tls(tls: ServerTls, folder: Path) -> PreparedTls:
    """Write what is needed into ``folder``, which must be private to this user and stay while the server runs."""
    certificate, key = tls.certificate.absolute(), tls.key.absolute()
    name = certified_name(certificate)
    if tls.client_ca is None:
        return PreparedTls(certificate, key, None, TlsOptions(certificate, server_name=name))
    own, own_key, admitted = (folder / file for file in ("control.pem", "control.key", "clients.pem"))
    _make_certificate(own, own_key)
    admitted.write_bytes(tls.client_ca.read_bytes() + b"\n" + own.read_bytes())
    return PreparedTls(certificate, key, admitted, TlsOptions(certificate, own, own_key, server_name=name))


def certified_name(path: Path) -> str:
    """A host name that a server's certificate is good for.

    Raises:
        InputError: if it names no host at all, or is not valid now, so that no client would accept it.
    """
    from cryptography import x509

    certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= datetime.datetime.now(datetime.UTC) <= last:
        raise InputError(f"the certificate {path} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, and not now")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise InputError(f"the certificate {path} has no subject alternative name: no client would accept it") from None
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    if not hosts:
        raise InputError(f"the certificate {path} names no host or address: no client would accept it")
    return hosts[0].replace("*", "any")


def _make_certificate(path: Path, key_path: Path) -> None:
    """A certificate that is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "semia serve")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks are adjusted
        .not_valid_after(now + datetime.timedelta(days=CONTROL_CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def find_free_ports(count: int) -> list[int]:
    """So many different loopback ports that are free now."""
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

    host: str = LOOPBACK  # IPv4 or IPv6 address, or name of one, to listen on
    grpc_port: int = GRPC_PORT
    http_port: int | None = None  # None: no HTTP; not with `tls`, which it would lead round, nor with `max_loaded`
    metrics_port: int = METRICS_PORT
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
        """Options with loopback ports for gRPC and metrics that are free now."""
        grpc_port, metrics_port = find_free_ports(2)
        return cls(grpc_port=grpc_port, metrics_port=metrics_port)

    @property
    def only_loopback(self) -> bool:
        """Whether the server is reachable from this machine alone."""
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


def join_address(host: str, port: int) -> str:
    """HOST:PORT; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_ports(options: ServerOptions) -> None:
    """Make sure that nothing listens on the ports yet; Triton's own complaint would name only the first.

    Raises:
        PortTakenError: if something does.
        InputError: if this machine has no such address.
    """
    for service, (host, port) in options.addresses.items():
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
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
                raise InputError(f"cannot listen on {join_address(host, port)}: {error.strerror}") from error


def server_arguments(options: ServerOptions) -> dict[str, str]:
    """Triton's arguments by name, but for those of TLS and the admin key."""
    arguments = {
        "model-control-mode": "explicit",
        # One broken model must not take the others down.
        "exit-on-error": "false",
        "exit-timeout-secs": str(EXIT_TIMEOUT_S),
        "allow-gpu-metrics": str(any(device.exists() for device in GPU_DEVICES)).lower(),
        "log-verbose": str(int(options.log_verbose)),
        "allow-http": str("HTTP" in options.addresses).lower(),
    }
    if options.max_loaded is None:
        # Everything is loaded at the start; newly published versions when `semia.serving.load_model` says so.
        arguments["load-model"] = "*"
    for service, (host, port) in options.addresses.items():
        if ":" in host:  # Triton spells IPv6 addresses as the libraries do that listen
            host = f"[{host}]" if service == "gRPC" else f"ipv6:{host}"
        arguments |= {f"{service.lower()}-address": host, f"{service.lower()}-port": str(port)}
    return arguments


def flags(arguments: Mapping[str, str]) -> list[str]:
    """Arguments by name as Triton's command line takes them."""
    return [f"--{name}={value}" for name, value in arguments.items()]

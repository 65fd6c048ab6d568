"""How a server is reached: TLS, the key of its operators, how large messages are. For the client and for serving.

`TlsOptions.credentials` needs grpc; nothing else here does.
"""

import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from semia.core.errors import InputError
from semia.core.labels import Canvas

if TYPE_CHECKING:
    import grpc

ADMIN_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")
ADMIN_KEY_NAME = "semia-admin-key"  # in the headers of a call: so over HTTP, with a prefix over gRPC
GRPC_HEADER_PREFIX = "triton-grpc-protocol-"  # what Triton expects before the name of a key over gRPC
RESTRICTED = "This protocol is restricted"  # how Triton begins its refusal of a call that lacks the key
TLS_PROBLEM_TIMEOUT_S = 2.0  # for finding out why TLS keeps us from a server
MAX_MESSAGE_BYTES = 256 << 20  # either way; tritonclient's own limit, 2 GiB, would let a wrong server fill the memory
OVERHEAD_BYTES = 64 << 10  # for all in a message but its tensor: names, shapes and parameters take a fraction of it


@dataclass(frozen=True)
class TlsOptions:
    """A caller's side of TLS.

    The files are PEM. They are read when a client is made, and when it first connects: renewed ones need a new client.
    """

    root_certificate: Path | None = None  # of whoever signed the server's certificate; None: the public roots of gRPC
    certificate: Path | None = None  # the caller's own, for servers that ask for one (mutual TLS)
    key: Path | None = None  # the private key of `certificate`
    server_name: str | None = None  # in the server's certificate, where it differs from the address

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("a client certificate and its private key belong together: give both or neither")

    def context(self) -> ssl.SSLContext:
        """What the standard library makes of the options; it checks every file.

        Raises:
            InputError: if a file is missing or not PEM, or the key is encrypted or of another certificate.
        """
        context = ssl.create_default_context(cafile=_readable(self.root_certificate))
        context.set_alpn_protocols(["h2"])
        if self.certificate is not None and self.key is not None:
            load_certificate(context, self.certificate, self.key)
        return context

    def credentials(self) -> "grpc.ChannelCredentials":
        """The options as gRPC takes them.

        Raises:
            InputError: as `context`.
        """
        import grpc

        self.context()
        root, key, certificate = (
            None if path is None else path.read_bytes() for path in (self.root_certificate, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(root, key, certificate)


@dataclass(frozen=True)
class ServerAccess:
    """What opens a server that is not open to everyone."""

    tls: TlsOptions | None = None  # None: the connection is not encrypted
    admin_key: str | None = field(default=None, repr=False)  # for calls that the server keeps to its operators

    @property
    def credentials(self) -> "grpc.ChannelCredentials | None":
        """For gRPC; None for a plain-text connection."""
        return None if self.tls is None else self.tls.credentials()

    @property
    def channel_arguments(self) -> list[tuple[str, object]]:
        """For every gRPC channel of ours."""
        # Else http_proxy, set for the web, would be asked for 127.0.0.1 too.
        arguments: list[tuple[str, object]] = [("grpc.enable_http_proxy", 0)]
        if self.tls is not None and self.tls.server_name is not None:
            arguments.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return arguments

    def refusal(self, url: str, message: str) -> str | None:
        """What a server's message means if it keeps the call to its operators; None if it means something else."""
        if not is_restricted(message):
            return None
        wanted = "another admin key" if self.admin_key else "the admin key (--admin-key-file)"
        return f"the server at {url} keeps this to its operators: it wants {wanted}"

    def tls_failure(self, url: str) -> str | None:
        """Why no connection to a server comes about, if TLS is the reason; takes up to `TLS_PROBLEM_TIMEOUT_S`."""
        problem = _tls_problem(url, self.tls)
        return None if problem is None else f"cannot talk to the server at {url}: {problem}"

    @property
    def headers(self) -> dict[str, str]:
        """For the calls that the server keeps to its operators; others need none."""
        return {} if self.admin_key is None else {GRPC_HEADER_PREFIX + ADMIN_KEY_NAME: self.admin_key}


def is_restricted(message: str | None) -> bool:
    """Whether a server's message says that it keeps a call to its operators."""
    return RESTRICTED in (message or "")


def check_address(url: str) -> str:
    """Return ``url`` if it is the address of a gRPC service: HOST:PORT, [IPV6]:PORT, or unix:PATH.

    Raises:
        InputError: for anything else.
    """
    host, _, port = url.rpartition(":")
    if not url.startswith("unix:"):
        if not host or "/" in host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise InputError(f"{url!r} is not the address of a server: write HOST:PORT, like 127.0.0.1:8001")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise InputError(
                f"{url!r} is not the address of a server: write an IPv6 address in brackets, like [::1]:8001"
            )
    return url


def read_admin_key(path: Path) -> str:
    """The operators' key: the one line of a file.

    Raises:
        InputError: if the file cannot be read, or does not hold 16 to 256 letters, digits or ``._~+/=-``.
    """
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the admin key from {path}: {error}") from error
    if not ADMIN_KEY.fullmatch(key):
        raise InputError(
            f"{path} does not hold an admin key, one line of 16 to 256 letters, digits or ._~+/=-: "
            f"make one with `openssl rand -hex 32 > {path}`"
        )
    return key


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load a certificate and its private key, which makes sure that they belong together.

    Raises:
        InputError: if a file is missing or not PEM, or the key is encrypted or of another certificate.
    """

    def refuse_password() -> str:
        raise InputError(f"the private key {key} is encrypted: give it without a passphrase, readable to its owner")

    for path in (certificate, key):
        _readable(path)
    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        reason = error.reason or "not PEM"
        raise InputError(f"{key} is not the private key of the certificate {certificate}: {reason}") from error


def _readable(path: Path | None) -> Path | None:
    """The path, once it is known to hold PEM."""
    if path is not None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        if b"-----BEGIN" not in content:
            raise InputError(f"{path} is not a PEM file")
    return path


def _tls_problem(url: str, tls: TlsOptions | None) -> str | None:
    """Why gRPC could not connect to ``url``, HOST:PORT, if TLS is the reason; its own message does not tell.

    A server that says nothing for `TLS_PROBLEM_TIMEOUT_S` has no problem with TLS.
    """
    if tls is None:  # this only finds out whether the server speaks TLS; nothing is sent to it
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    else:
        context = tls.context()
    host, _, port = url.rpartition(":")
    host = host.strip("[]")
    try:
        with (
            socket.create_connection((host, int(port)), TLS_PROBLEM_TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=(tls and tls.server_name) or host) as encrypted,
        ):
            if tls is None:
                return "it speaks TLS: give the certificate of whoever signed its own (--tls-ca)"
            return None if _is_admitted(encrypted) else _certificate_problem(tls)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not to be trusted: {error.verify_message}"
    except ssl.SSLError as error:
        return _alert(error, tls)
    except (OSError, ValueError):
        pass
    return None


def _is_admitted(encrypted: ssl.SSLSocket) -> bool:
    """Whether the server goes on after the handshake: only then does TLS 1.3 look at a client's certificate."""
    try:
        return encrypted.recv(1) != b""  # HTTP/2 servers speak first
    except TimeoutError:
        return True
    except OSError:
        return False


def _certificate_problem(tls: TlsOptions) -> str:
    if tls.certificate is None:
        return "it asks for a client certificate (--tls-cert, --tls-key)"
    return f"it does not admit the client certificate {tls.certificate}"


def _alert(error: ssl.SSLError, tls: TlsOptions | None) -> str | None:
    if tls is None:
        return None  # the server does not speak TLS, which is what the caller thinks
    reason = (error.reason or "").replace("_", " ").lower()
    if "wrong version number" in reason or "record layer failure" in reason:
        return "it does not speak TLS: leave the --tls options away"
    if "alert" in reason:
        return _certificate_problem(tls)
    return f"the TLS handshake failed: {reason}"


def largest_batch(canvas: Canvas) -> int:
    """How many pictures ``uint8[H, W, 3]`` of a canvas one message holds; 0: not a single one."""
    return (MAX_MESSAGE_BYTES - OVERHEAD_BYTES) // (canvas.height * canvas.width * 3)

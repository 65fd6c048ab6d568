"""The server's side of TLS, and how its own process reaches it through that.

Triton's gRPC does TLS itself. The process that starts Triton has to ask it for its models' states over the
same port: it trusts the server's certificate because it knows it, and where clients need a certificate of
their own, it makes itself one that this server alone trusts and that goes with the server.
"""

import datetime
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semia.core.access import TlsOptions, load_certificate
from semia.core.errors import InputError

if TYPE_CHECKING:
    import grpc

CONTROL_CERTIFICATE_DAYS = 3650
"""Longer than any server runs; the certificate's key is gone when it stops."""


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

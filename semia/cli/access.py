"""Options with which commands reach a server that is not open to everyone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from semia.access import ServerAccess, TlsOptions

TlsFlag = Annotated[
    bool, typer.Option("--tls", help="Encrypt the connection; the server's certificate is of a public authority.")
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="PEM file: certificate of whoever signed the server's own. Turns TLS on."),
]
TlsCertOption = Annotated[
    Path | None, typer.Option("--tls-cert", help="PEM file: our certificate, for a server that asks for one.")
]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", help="PEM file: the private key of --tls-cert.")]
AdminKeyFileOption = Annotated[
    Path | None, typer.Option("--admin-key-file", help="File that holds the key of the server's operators.")
]


def tls_options(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> "TlsOptions | None":
    """What the options say; None for a plain-text connection."""
    from semia.access import TlsOptions

    if not tls and ca is None and certificate is None and key is None:
        return None
    return TlsOptions(ca, certificate, key)


def server_access(tls: "TlsOptions | None", admin_key_file: Path | None) -> "ServerAccess":
    """TLS and the admin key."""
    from semia.access import ServerAccess, read_admin_key

    return ServerAccess(tls, None if admin_key_file is None else read_admin_key(admin_key_file))

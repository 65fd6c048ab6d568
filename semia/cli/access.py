"""Options with which commands reach a server that is not open to everyone."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from semia.core.access import ServerAccess, TlsOptions

PANEL = "A server that is not open to everyone"


def _option(flag: str, words: str) -> Any:
    return typer.Option(flag, help=words, rich_help_panel=PANEL)


OPTIONS: dict[str, tuple[Any, bool | None]] = {
    "tls": (
        Annotated[
            bool, _option("--tls", "Encrypt the connection; a public authority signed the server's certificate.")
        ],
        False,
    ),
    "tls_ca": (
        Annotated[
            Path | None, _option("--tls-ca", "PEM file: certificate of whoever signed the server's own. Turns TLS on.")
        ],
        None,
    ),
    "tls_cert": (
        Annotated[Path | None, _option("--tls-cert", "PEM file: our certificate, for a server that asks for one.")],
        None,
    ),
    "tls_key": (Annotated[Path | None, _option("--tls-key", "PEM file: the private key of --tls-cert.")], None),
    "admin_key_file": (
        Annotated[Path | None, _option("--admin-key-file", "File that holds the key of the server's operators.")],
        None,
    ),
}
"""Annotations and defaults of what `reaches_a_server` adds."""


def tls_options(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> "TlsOptions | None":
    """What the options say; None for a plain-text connection."""
    from semia.core.access import TlsOptions

    if not tls and ca is None and certificate is None and key is None:
        return None
    return TlsOptions(ca, certificate, key)


def server_access(tls: "TlsOptions | None", admin_key_file: Path | None) -> "ServerAccess":
    """TLS and the admin key."""
    from semia.core.access import ServerAccess, read_admin_key

    return ServerAccess(tls, None if admin_key_file is None else read_admin_key(admin_key_file))


def reaches_a_server(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes ``access``, a `ServerAccess`, the options that make one up."""

    @functools.wraps(command)
    def with_options(
        *,
        tls: bool,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        admin_key_file: Path | None,
        **others: Any,
    ) -> None:
        command(**others, access=server_access(tls_options(tls, tls_ca, tls_cert, tls_key), admin_key_file))

    # Typer reads signatures: of the command's own, without ``access``, and of the options above.
    own = [value for name, value in inspect.signature(command).parameters.items() if name != "access"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in OPTIONS.items()
    ]
    with_options.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return with_options

"""Who may talk to the studio: the browser that was given the token, from the studio's own page."""

import ipaddress
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from semia.core import LOOPBACK
from semia.core.access import load_certificate
from semia.core.errors import InputError

SAFE_METHODS = (hdrs.METH_GET, hdrs.METH_HEAD)

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a request."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of every answer."""


@dataclass(frozen=True)
class PageTls:
    """The certificate that the page is served with; PEM files."""

    certificate: Path  # with any intermediate ones after it; browsers check its names
    key: Path  # its private key, without a passphrase

    def context(self) -> ssl.SSLContext:
        """For the listener.

        Raises:
            InputError: if a file is missing or not PEM, or the key is encrypted or of another certificate.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_certificate(context, self.certificate, self.key)
        return context


def check_host(host: str, tls: PageTls | None) -> None:
    """Make sure that the page may be served at a host.

    Raises:
        InputError: if it is beyond loopback without TLS, or one that no browser could ask for.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        loopback, every = host == "localhost", False
    else:
        loopback, every = address.is_loopback, address.is_unspecified
    if every:
        raise InputError(f"{host} is no address that browsers open: give --host the name or address they reach this by")
    if tls is None and not loopback:
        raise InputError(
            f"at {host} others could read along, the token too: give the page a certificate (--page-cert, --page-key)"
        )


class Gate:
    """Lets requests through that come from the studio's own page in a browser that has opened `address`."""

    def __init__(self, port: int, host: str = LOOPBACK, *, encrypted: bool = False) -> None:
        names = (host, "localhost") if host == LOOPBACK else (host,)
        self._hosts = tuple(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names)
        self._encrypted = encrypted
        self._scheme = "https" if encrypted else "http"
        self._token = secrets.token_urlsafe(32)
        self._cookie = f"semia-studio-{port}"  # cookies know no ports: two studios would overwrite each other's

    @property
    def address(self) -> str:
        """What to open; whoever has it may do all that the studio can."""
        return f"{self._scheme}://{self._hosts[0]}/?token={self._token}"

    def middleware(self) -> Middleware:
        """For the application: it answers strangers itself."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._check_sender(request)
            if request.path == "/" and "token" in request.query:
                return self._admit(request)
            if not self._is_known(request.cookies.get(self._cookie, "")):
                raise web.HTTPForbidden(text="open the address that `semia studio` printed: this browser has no key")
            if (request.content_length or 0) > MAX_BODY_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
            return await handler(request)

        return guard

    def _check_sender(self, request: web.Request) -> None:
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            raise web.HTTPForbidden(text=f"this studio answers at {self._hosts[0]} alone")
        changes = request.method not in SAFE_METHODS or hdrs.UPGRADE in request.headers
        if changes and request.headers.get(hdrs.ORIGIN) != f"{self._scheme}://{hosts[0]}":
            raise web.HTTPForbidden(text="only the studio's own page may ask for this")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise web.HTTPForbidden(text="other pages may not ask the studio")

    def _admit(self, request: web.Request) -> web.Response:
        if not self._is_known(request.query["token"]):
            raise web.HTTPForbidden(text="this address is of an earlier studio: open the one that was printed last")
        answer = web.Response(status=303, headers={hdrs.LOCATION: "/"})
        answer.set_cookie(
            self._cookie, self._token, httponly=True, samesite="Strict", secure=self._encrypted or None, path="/"
        )
        return answer

    def _is_known(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Say with every answer what browsers may do with it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)

"""The page over TLS, and a Triton that asks for certificates and a key."""

import dataclasses
import socket
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from semia.core.access import ServerAccess, TlsOptions
from semia.core.errors import InputError
from semia.core.palette import Palette
from semia.serving import TritonServer
from semia.studio.access import Gate, PageTls, check_host
from semia.studio.frames import pack, unpack
from semia.studio.studio import StudioSettings
from tests.command import complaint, semia
from tests.studio.browser import StudioProcess, open_page, pictures, running_browser, settled
from tests.studio.running import Visitor, settings_in, visit


@pytest.fixture
def settings(tmp_path: Path, tiny_scene: Path, locked_triton: TritonServer, certificates: Path) -> StudioSettings:
    """A studio with a certificate, joined to a Triton with mutual TLS and an admin key."""
    return dataclasses.replace(
        settings_in(tmp_path, tiny_scene, url=locked_triton.grpc_url),
        tls=PageTls(certificates / "server.pem", certificates / "server.key"),
        access=ServerAccess(
            TlsOptions(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key"),
            (certificates / "admin.key").read_text().strip(),
        ),
    )


def test_a_live_picture_over_tls_on_both_sides(
    settings: StudioSettings, certificates: Path, tiny_ids: NDArray[np.uint8], tiny_palette: Palette
) -> None:
    async def errand(visitor: Visitor) -> None:
        assert visitor.address.scheme == "https"
        async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
            card = (await answer.json())["card"]
        async with visitor.live("tiny", card) as live:
            await live.send_bytes(pack({"sequence": 1, "width": 64, "height": 48}, tiny_ids.tobytes()))
            frame = unpack((await live.receive(timeout=20)).data)
        assert np.array_equal(np.frombuffer(frame.body, np.uint8).reshape(48, 64, 3), tiny_palette.array[tiny_ids])
        plain = {"Origin": str(visitor.address.origin()).replace("https", "http")}
        async with visitor.ask("POST", "/api/triton", headers=plain) as answer:
            assert answer.status == 403, "a page without TLS is another page"
        async with aiohttp.ClientSession() as stranger:
            with pytest.raises(aiohttp.ClientError):
                await stranger.get(str(visitor.address).replace("https", "http"))

    visit(settings, errand, trusted=certificates / "ca.pem")


def test_the_cookie_is_for_tls_alone(settings: StudioSettings, certificates: Path) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", str(visitor.address.relative()), allow_redirects=False) as answer:
            (cookie,) = answer.headers.getall("Set-Cookie")
        assert {"HttpOnly", "Secure", "SameSite=Strict"} <= set(cookie.split("; "))

    visit(settings, errand, admitted=False, trusted=certificates / "ca.pem")


def test_a_browser_gets_pictures_over_tls(
    tmp_path: Path, tiny_scene: Path, locked_triton: TritonServer, certificates: Path
) -> None:
    studio = StudioProcess(
        tmp_path / "work", tiny_scene, "--url", locked_triton.grpc_url, "--tls-ca", certificates / "ca.pem",
        "--tls-cert", certificates / "client.pem", "--tls-key", certificates / "client.key",
        "--admin-key-file", certificates / "admin.key",
        "--page-cert", certificates / "server.pem", "--page-key", certificates / "server.key",
    )  # fmt: skip
    try:
        assert studio.address.startswith("https://127.0.0.1:")
        with running_browser() as browser:
            page = open_page(browser, studio.address)
            settled(page)
            assert pictures(page)
    finally:
        studio.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_certificate(host: str) -> None:
    check_host(host, None)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("0.0.0.0", "0.0.0.0 is no address that browsers open: give --host the name"),  # noqa: S104 - it is refused
        ("::", "is no address that browsers open"),
        ("192.0.2.7", "others could read along, the token too: give the page a certificate"),
        ("studio.example.org", "others could read along"),
    ],
)
def test_what_would_be_open_to_others_is_refused(host: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_host(host, None)


def test_a_host_beyond_loopback_answers_to_its_own_name_alone(certificates: Path) -> None:
    check_host("studio.example.org", PageTls(certificates / "server.pem", certificates / "server.key"))
    gate = Gate(8765, "studio.example.org", encrypted=True)
    assert gate.address.startswith("https://studio.example.org:8765/?token=")
    assert Gate(1, "::1").address.startswith("http://[::1]:1/?token=")


def test_a_certificate_without_its_key_is_bad_input(tmp_path: Path, certificates: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        alone = semia("studio", "--no-open", "--port", port, "--page-cert", certificates / "server.pem", cwd=tmp_path)
        assert "TLS needs both --page-cert and --page-key" in complaint(alone, 2)
        files = ("--page-cert", certificates / "server.pem", "--page-key", certificates / "client.key")
        others = semia("studio", "--no-open", "--port", port, *files, cwd=tmp_path)
        assert "client.key is not the private key of the certificate" in complaint(others, 2)
        taken = semia("studio", "--no-open", "--port", port, cwd=tmp_path)
        assert f"cannot listen on 127.0.0.1:{port} (Address already in use): choose another --port" in complaint(
            taken, 2
        )

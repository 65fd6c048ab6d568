"""TLS, mutual TLS and the admin key, against a real Triton that asks for all of them: let in, and kept out."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from semia import serving
from semia.client import (
    AccessRefusedError,
    AsyncSynthesisClient,
    ClientSettingsError,
    RetryOptions,
    SynthesisClient,
    TlsError,
    TlsOptions,
    UnknownModelError,
    read_admin_key,
)
from semia.core.errors import InputError
from semia.core.palette import Palette

ONCE = RetryOptions(attempts=1)

IDS = np.ones((48, 64), dtype=np.uint8)


@pytest.fixture(scope="module")
def tls(certificates: Path) -> TlsOptions:
    return TlsOptions(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")


def test_a_picture_comes_through_mutual_tls(
    locked_triton: serving.TritonServer, tls: TlsOptions, tiny_palette: Palette
) -> None:
    with SynthesisClient(locked_triton.grpc_url, tls=tls) as client:
        assert np.array_equal(np.asarray(client.synthesize("tiny", IDS)), tiny_palette.render(IDS))


def test_the_asyncio_client_does_tls_too(locked_triton: serving.TritonServer, tls: TlsOptions) -> None:
    async def call() -> None:
        async with AsyncSynthesisClient(locked_triton.grpc_url, tls=tls) as client:
            assert (await client.synthesize("tiny", IDS)).getpixel((0, 0)) == (0, 255, 0)
        async with AsyncSynthesisClient(locked_triton.grpc_url, retries=ONCE) as client:
            with pytest.raises(TlsError, match="it speaks TLS"):
                await client.synthesize("tiny", IDS)

    asyncio.run(call())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, r"it speaks TLS: give the certificate of whoever signed its own \(--tls-ca\)"),
        (("clients", None), "its certificate is not to be trusted: unable to get local issuer certificate"),
        (("ca", None), "it asks for a client certificate"),
        (("ca", "server"), r"it does not admit the client certificate .*server\.pem"),
    ],
    ids=["plain text", "wrong authority", "no client certificate", "a stranger's client certificate"],
)
def test_who_is_kept_out_is_told_why(
    locked_triton: serving.TritonServer,
    certificates: Path,
    files: tuple[str, str | None] | None,
    message: str,
) -> None:
    tls = None
    if files is not None:
        authority, own = files
        certificate, key = (certificates / f"{own}.{suffix}" if own else None for suffix in ("pem", "key"))
        tls = TlsOptions(certificates / f"{authority}.pem", certificate, key)
    url = locked_triton.grpc_url
    with SynthesisClient(url, tls=tls, retries=ONCE) as client, pytest.raises(TlsError, match=message) as caught:
        client.synthesize("tiny", IDS)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 1


def test_another_name_in_the_certificate_is_refused_unless_it_is_expected(
    locked_triton: serving.TritonServer, tls: TlsOptions
) -> None:
    url = f"localhost:{locked_triton.options.grpc_port}"  # the certificate is for 127.0.0.1
    with SynthesisClient(url, tls=tls, retries=ONCE) as client, pytest.raises(TlsError, match="Hostname mismatch"):
        client.describe("tiny")
    with SynthesisClient(url, tls=dataclasses.replace(tls, server_name="127.0.0.1")) as client:
        assert client.describe("tiny").versions == ("1",)


def test_tls_against_a_server_without_it(triton: serving.TritonServer, tls: TlsOptions) -> None:
    with SynthesisClient(triton.grpc_url, tls=tls) as client, pytest.raises(TlsError, match="does not speak TLS"):
        client.models()


def test_the_list_of_models_needs_the_key(
    locked_triton: serving.TritonServer, tls: TlsOptions, certificates: Path
) -> None:
    def client(key: str | None = None) -> SynthesisClient:
        admin_key = None if key is None else read_admin_key(certificates / key)
        return SynthesisClient(locked_triton.grpc_url, tls=tls, admin_key=admin_key)

    with client("admin.key") as operator:
        assert "tiny" in operator.models()
    with client("other.key") as stranger, pytest.raises(AccessRefusedError, match="wants another admin key"):
        stranger.models()
    with client() as caller:
        with pytest.raises(AccessRefusedError, match="keeps this to its operators: it wants the admin key"):
            caller.models()
        with pytest.raises(UnknownModelError, match="'castle' ready; models: known to the server's operators"):
            caller.describe("castle")


@pytest.mark.parametrize(
    ("root", "certificate", "key", "message"),
    [
        ("absent.pem", None, None, r"cannot read .*absent\.pem: No such file"),
        ("admin.key", None, None, r"admin\.key is not a PEM file"),
        ("ca.pem", "client.pem", "server.key", r"server\.key is not the private key of the certificate .*client\.pem"),
        ("ca.pem", "client.pem", "client.pem", r"client\.pem is not the private key of the certificate"),
    ],
)
def test_certificates_that_cannot_work_are_refused_at_once(
    certificates: Path, root: str, certificate: str | None, key: str | None, message: str
) -> None:
    own = [None if name is None else certificates / name for name in (certificate, key)]
    with pytest.raises(ClientSettingsError, match=message) as caught:
        SynthesisClient(tls=TlsOptions(certificates / root, own[0], own[1]))
    assert caught.value.exit_code == 2


def test_a_certificate_without_its_key_is_refused(certificates: Path) -> None:
    with pytest.raises(InputError, match="belong together"):
        TlsOptions(certificates / "ca.pem", certificate=certificates / "client.pem")


@pytest.mark.parametrize("content", ["", "short", "sixteen letters and spaces", "0123456789abcdef\nsecond line"])
def test_what_is_no_admin_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(InputError, match="openssl rand"):
        read_admin_key(tmp_path / "key")
    with pytest.raises(InputError, match="No such file"):
        read_admin_key(tmp_path / "absent")

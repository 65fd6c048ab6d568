"""A Triton with TLS and an admin key, as its operator meets it: started, controlled, and closed to others."""

import dataclasses
import datetime
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from PIL import Image
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from semia import serving
from semia.cli.serve import _warn
from semia.client import SynthesisClient
from semia.core.errors import InputError
from semia.serving import ServerAccess, ServerOptions, ServerTls, TlsOptions, TritonServer
from semia.serving.triton.options import certified_name, find_free_ports
from tests.command import complaint, semia

MakeOptions = Callable[[], ServerOptions]


@pytest.fixture(scope="module")
def caller(certificates: Path) -> ServerAccess:
    """Somebody with a certificate and without the key."""
    return ServerAccess(TlsOptions(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key"))


@pytest.fixture(scope="module")
def operator(caller: ServerAccess, certificates: Path) -> ServerAccess:
    return dataclasses.replace(caller, admin_key=(certificates / "admin.key").read_text().strip())


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def check_that_strangers_are_told_why(server: TritonServer, certificates: Path) -> None:
    for tls, message in (
        (None, "it speaks TLS"),
        (TlsOptions(certificates / "clients.pem"), "its certificate is not to be trusted"),
        (TlsOptions(certificates / "ca.pem"), "it asks for a client certificate"),
    ):
        with pytest.raises(serving.ServerUnreachableError, match=message):
            serving.model_states(server.grpc_url, access=ServerAccess(tls))


def test_the_operator_sees_and_loads_models(locked_triton: TritonServer, operator: ServerAccess) -> None:
    assert locked_triton.models == {"tiny": 1}, "seen at the start, by the server's own access"
    assert serving.model_states(locked_triton.grpc_url, access=operator)["tiny"].version == 1
    assert serving.load_model(locked_triton.grpc_url, "tiny", access=operator) == 1


@pytest.mark.parametrize("key", [None, "not the operators' key"])
def test_without_the_key_nothing_can_be_changed(
    locked_triton: TritonServer, caller: ServerAccess, key: str | None
) -> None:
    access = dataclasses.replace(caller, admin_key=key)
    for call in (serving.load_model, lambda url, _, **access: serving.model_states(url, **access)):
        with pytest.raises(serving.AccessRefusedError, match="keeps this to its operators"):
            call(locked_triton.grpc_url, "tiny", access=access)
    calls: list[Callable[[InferenceServerClient], Any]] = [
        lambda triton: triton.unload_model("tiny", headers=access.headers),
        lambda triton: triton.get_model_repository_index(headers=access.headers),
        lambda triton: triton.register_system_shared_memory("a", "/a", 1, headers=access.headers),
        lambda triton: triton.unregister_system_shared_memory(headers=access.headers),
        lambda triton: triton.update_log_settings({"log_verbose_level": 1}, headers=access.headers),
        lambda triton: triton.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=access.headers),
    ]
    with InferenceServerClient(locked_triton.grpc_url, creds=caller.credentials) as triton:
        for bare_call in calls:
            with pytest.raises(InferenceServerException, match="This protocol is restricted"):
                bare_call(triton)
        assert triton.get_model_config("tiny").config.name == "tiny", "callers read it"


def test_the_key_opens_what_it_closes(locked_triton: TritonServer, operator: ServerAccess) -> None:
    with InferenceServerClient(locked_triton.grpc_url, creds=operator.credentials) as triton:
        assert triton.get_log_settings(headers=operator.headers).settings["log_error"].bool_param
        assert triton.get_trace_settings(headers=operator.headers)


def test_who_is_no_client_is_told_why(locked_triton: TritonServer, certificates: Path) -> None:
    check_that_strangers_are_told_why(locked_triton, certificates)


def test_the_metrics_are_read_on_loopback(locked_triton: TritonServer) -> None:
    options = locked_triton.options
    with urllib.request.urlopen(f"http://127.0.0.1:{options.metrics_port}/metrics") as answer:
        assert b"nv_inference_request_success" in answer.read()
    assert dataclasses.replace(options, host="0.0.0.0").addresses["metrics"][0] == "127.0.0.1"  # noqa: S104


def test_the_keys_are_private(locked_triton: TritonServer, operator: ServerAccess) -> None:
    assert operator.admin_key is not None
    assert operator.admin_key not in locked_triton.log_path.read_text()
    assert operator.admin_key not in repr(operator)
    folder = locked_triton.log_path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "control.key").stat().st_mode) == 0o600


def test_one_way_tls_with_a_certificate_for_another_name(
    embedded_triton: None, locked_triton: TritonServer, server_options: MakeOptions, certificates: Path
) -> None:
    tls = ServerTls(certificates / "elsewhere.pem", certificates / "elsewhere.key")
    with TritonServer(locked_triton.repository, dataclasses.replace(server_options(), tls=tls)) as server:
        assert server.models == {"tiny": 1}
        trusting = TlsOptions(certificates / "ca.pem", server_name="triton.example.org")
        assert "tiny" in serving.model_states(server.grpc_url, access=ServerAccess(trusting))
        with pytest.raises(serving.ServerUnreachableError, match="IP address mismatch"):
            serving.model_states(server.grpc_url, access=ServerAccess(TlsOptions(certificates / "ca.pem")))


def test_a_front_asks_callers_for_the_same(
    locked_triton: TritonServer,
    server_options: MakeOptions,
    certificates: Path,
    caller: ServerAccess,
    operator: ServerAccess,
) -> None:
    tls = locked_triton.options.tls
    options = dataclasses.replace(server_options(), max_loaded=1, tls=tls, admin_key_file=certificates / "admin.key")
    with TritonServer(locked_triton.repository, options) as server:
        with SynthesisClient(server.grpc_url, tls=caller.tls) as client:
            assert client.synthesize("tiny", np.zeros((48, 64), np.uint8)).getpixel((5, 5)) == (255, 0, 0)
        check_that_strangers_are_told_why(server, certificates)
        with pytest.raises(serving.AccessRefusedError, match="keeps this to its operators"):
            serving.unload_model(server.grpc_url, "tiny", access=caller)
        assert serving.load_model(server.grpc_url, "tiny", access=operator) == 1


def test_the_key_closes_http_too_where_there_is_http(
    embedded_triton: None, locked_triton: TritonServer, server_options: MakeOptions, certificates: Path
) -> None:
    grpc_port, http_port, metrics_port = find_free_ports(3)
    options = dataclasses.replace(
        server_options(),
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        admin_key_file=certificates / "admin.key",
    )
    with TritonServer(locked_triton.repository, options) as server:
        while not listens(http_port):  # it comes a moment after gRPC
            time.sleep(0.02)
        index = f"http://127.0.0.1:{http_port}/v2/repository/index"
        with pytest.raises(urllib.error.HTTPError, match="Forbidden"):
            urllib.request.urlopen(urllib.request.Request(index, method="POST"))
        headers = {"semia-admin-key": (certificates / "admin.key").read_text().strip()}
        with urllib.request.urlopen(urllib.request.Request(index, headers=headers, method="POST")) as answer:
            assert b'"tiny"' in answer.read()
        assert serving.model_states(server.grpc_url, access=server.access)["tiny"].version == 1


def test_the_command_publishes_to_it_and_calls_it(
    locked_triton: TritonServer, certificates: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    url = locked_triton.grpc_url
    pem: list[str | Path] = ["--tls-ca", certificates / "ca.pem", "--tls-cert", certificates / "client.pem"]
    pem += ["--tls-key", certificates / "client.key"]
    publish: list[str | Path] = [
        "publish",
        tiny_bundle,
        "--repository",
        locked_triton.repository,
        "--name",
        "second",
        "--load",
        url,
    ]
    assert "wants the admin key (--admin-key-file)" in complaint(semia(*publish, *pem), 1)
    result = semia(*publish, *pem, "--admin-key-file", certificates / "admin.key")
    assert f"version 1); {url} serves it" in result.stdout, result.stderr

    target = tmp_path / "target.png"
    Image.new("RGB", (64, 48), (255, 0, 0)).save(target)
    synthesize: list[str | Path] = ["synthesize", "second", target, "--url", url, "--out", tmp_path / "out"]
    assert "1 pictures" in semia(*synthesize, *pem).stdout
    assert "it asks for a client certificate" in complaint(semia(*synthesize, *pem[:2]), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tls-cert", "a.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-client-ca", "a.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-cert", "a.pem", "--tls-key", "a.key"], "cannot read a.pem"),
        (["--admin-key-file", "absent"], "no such model repository"),
    ],
)
def test_serve_refuses_half_of_what_it_needs(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in complaint(semia("serve", *arguments, cwd=tmp_path), 2)


def test_certificates_that_no_client_accepts_are_refused(certificates: Path) -> None:
    assert certified_name(certificates / "elsewhere.pem") == "triton.example.org"
    with pytest.raises(InputError, match="names no host"):
        certified_name(certificates / "client.pem")
    with pytest.raises(InputError, match="no subject alternative name"):
        certified_name(certificates / "ca.pem")
    with pytest.raises(InputError, match="is not the private key"):
        ServerOptions(tls=ServerTls(certificates / "server.pem", certificates / "client.key"))


def test_an_expired_certificate_is_refused_before_anyone_waits_for_it(tmp_path: Path) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = trustme.CA().issue_cert("127.0.0.1", not_after=yesterday)
    expired.cert_chain_pems[0].write_to_path(str(tmp_path / "old.pem"))
    with pytest.raises(InputError, match=f"to {yesterday:%Y-%m-%d}, and not now"):
        certified_name(tmp_path / "old.pem")


def test_any_host_of_a_wildcard_will_do(tmp_path: Path) -> None:
    trustme.CA().issue_cert("*.example.org").cert_chain_pems[0].write_to_path(str(tmp_path / "wild.pem"))
    assert certified_name(tmp_path / "wild.pem") == "any.example.org"


@pytest.mark.parametrize(
    ("client_ca", "key", "expected"),
    [
        (None, "admin.key", ["nothing is encrypted", "known vulnerabilities"]),
        ("clients.pem", "admin.key", ["known vulnerabilities"]),
        ("", "admin.key", ["--tls-client-ca restricts that", "known vulnerabilities"]),
    ],
    ids=["open", "closed", "encrypted for everyone"],
)
def test_serve_warns_of_what_others_may_do(
    certificates: Path,
    client_ca: str | None,
    key: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr("semia.cli.serve.print_error", lambda line, *_: said.append(line))
    tls = None
    if client_ca is not None:
        admitted = certificates / client_ca if client_ca else None
        tls = ServerTls(certificates / "server.pem", certificates / "server.key", admitted)
    _warn(ServerOptions(host="192.0.2.1", tls=tls, admin_key_file=certificates / key))
    assert len(said) == len(expected)
    for line, words in zip(said, expected, strict=True):
        assert words in line

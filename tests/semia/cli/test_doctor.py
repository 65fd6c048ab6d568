"""``semia doctor``: what it looks at, and that whatever is wrong with one thing does not hide the others."""

import socket

import pytest

from semia.cli import doctor
from semia.cli.doctor import examine
from tests.command import semia


def test_one_screen_says_what_works_here() -> None:
    result = semia("doctor", columns=200)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    subjects = [
        "semia",
        "processor",
        "packages",
        "CUDA",
        "ONNX Runtime",
        "TensorRT",
        "Triton",
        "shared memory",
        "ports",
    ]
    assert [next((each for each in subjects if line.startswith(f" {each} ")), None) for line in lines] == subjects
    assert len(lines) <= 24, "one screen"


def test_what_is_wrong_with_one_thing_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[doctor.State, str]:
        raise RuntimeError("a library\nis broken")

    def lack() -> tuple[doctor.State, str]:
        raise ModuleNotFoundError("no such module", name="torch")

    monkeypatch.setattr(doctor, "EXAMINATIONS", {"one": fail, "two": lack, "three": lambda: ("ok", "fine")})
    assert [*examine()][3:] == [
        ("one", "broken", "RuntimeError: a library is broken"),
        ("two", "missing", "torch is not installed"),
        ("three", "ok", "fine"),
    ]


def test_a_port_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {"gRPC": port})
        state, note = doctor.EXAMINATIONS["ports"]()
    assert state == "broken"
    assert f"gRPC {port}" in note

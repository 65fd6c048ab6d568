"""The process of a model is killed under its callers: they wait, and nobody has to do anything."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from semia import serving
from semia.client import ClientError, SynthesisClient
from semia.core.machine import child_processes
from semia.core.palette import Palette
from semia.serving import TritonServer
from semia.serving.triton.watchdog import POLL_S, RESTARTED

IDS = np.ones((48, 64), np.uint8)
PALETTES = [Palette(((1, 1, 1), color), ("ground", "sky")) for color in ((10, 20, 30), (40, 50, 60))]


def process_of(server: TritonServer, model: str) -> int:
    """The stub that runs a model, by the path of its file."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in child_processes(server.pid):
            if f"/{model}/" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no process runs {model}")


@pytest.fixture
def server(
    embedded_triton: None,
    make_bundle: Callable[..., Path],
    server_options: Callable[[], serving.ServerOptions],
    tmp_path: Path,
) -> Iterator[TritonServer]:
    """A server of the test's own: one that lost a process in the middle of a call takes ten seconds to stop."""
    serving.publish(make_bundle(tmp_path / "old", name="mortal", palette=PALETTES[0]), tmp_path / "repository")
    with TritonServer(tmp_path / "repository", server_options()) as running:
        yield running
        os.killpg(running.pid, signal.SIGKILL)


def test_a_model_whose_process_is_killed_comes_back_under_its_callers(
    server: TritonServer,
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    over, problems, seconds = threading.Event(), list[ClientError](), list[float]()

    def call() -> None:
        with SynthesisClient(server.grpc_url) as client:
            while not over.is_set():
                began = time.monotonic()
                try:
                    assert client.synthesize("mortal", IDS).getpixel((0, 0)) in [each.colors[1] for each in PALETTES]
                except ClientError as error:
                    problems.append(error)
                seconds.append(time.monotonic() - began)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    time.sleep(2 * POLL_S)  # now the watchdog knows the model's process
    killed = process_of(server, "mortal")
    with caplog.at_level(logging.WARNING):
        os.kill(killed, signal.SIGKILL)
        while process_of(server, "mortal") == killed or "again" not in caplog.text:
            time.sleep(0.05)
    over.set()
    for caller in callers:
        caller.join()
    assert problems == []
    assert max(seconds) < 10
    assert caplog.messages[0] == "the process of model mortal was ended by SIGKILL"
    assert caplog.messages[1].startswith("model mortal has a process again, after ")
    assert len(caplog.messages) == 2

    # It is a model like any other: the next version comes as ever, with the repository's own configuration.
    new = make_bundle(tmp_path / "new", name="mortal", palette=PALETTES[1])
    assert serving.publish_and_load(new, server.repository, server.grpc_url).published.version == 2
    with SynthesisClient(server.grpc_url) as client:
        assert client.synthesize("mortal", IDS).getpixel((0, 0)) == PALETTES[1].colors[1]
    with InferenceServerClient(server.grpc_url) as bare:
        assert RESTARTED not in bare.get_model_config("mortal").config.parameters

"""A real Triton is stopped and started anew while callers call: they wait, and notice nothing else."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from semia import serving
from semia.client import ClientError, RetryOptions, SynthesisClient

PATIENT = RetryOptions(attempts=25)
"""A restart takes less than the 4 s of the default, but for a machine that is busy with other tests."""


def test_callers_do_not_notice_a_restart(
    embedded_triton: None, tiny_bundle: Path, server_options: Callable[[], serving.ServerOptions], tmp_path: Path
) -> None:
    options, ids, problems = server_options(), np.ones((48, 64), dtype=np.uint8), list[ClientError]()
    serving.publish(tiny_bundle, tmp_path / "repository")
    over = threading.Event()

    def call(shared_memory: bool) -> None:
        url = f"127.0.0.1:{options.grpc_port}"
        with SynthesisClient(url, shared_memory=shared_memory, retries=PATIENT) as client:
            while not over.is_set():
                try:
                    assert client.synthesize("tiny", ids).getpixel((0, 0)) == (0, 255, 0)
                except ClientError as error:
                    problems.append(error)

    callers = [threading.Thread(target=call, args=(memory,)) for memory in (False, True)]
    with serving.TritonServer(tmp_path / "repository", options):
        for caller in callers:
            caller.start()
        over.wait(0.3)
    with serving.TritonServer(tmp_path / "repository", options):
        over.wait(2.0)  # the longest wait between two attempts, jitter included
        over.set()
        for caller in callers:
            caller.join()
    assert problems == []

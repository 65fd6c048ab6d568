"""What a client does to its process's memory, seen in the kernel's count of pages that had to be fetched."""

import platform
import subprocess
import sys

import pytest

ANSWERS = """
import resource, sys
from semia.client import SynthesisClient

if sys.argv[1] == "client":
    SynthesisClient("127.0.0.1:1")

def answer():
    blocks = [bytes(650_000) for _ in range(4)]  # as a picture goes through gRPC, protobuf and NumPy

answer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    answer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_fetched(who: str) -> int:
    command = [sys.executable, "-c", ANSWERS, who]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is about glibc's malloc")
def test_a_client_does_not_fetch_every_answers_memory_anew() -> None:
    assert pages_fetched("nobody") > 50 * 50, "there is nothing to mend"
    assert pages_fetched("client") < 1000

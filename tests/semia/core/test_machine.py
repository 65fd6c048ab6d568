"""What a machine says about itself and its processes."""

import os
import subprocess
import sys

import pytest

from semia.core.machine import peak_memory_mb, process_tree, this_machine, usable_cores

HOLD_100_MB = "import time; b = bytearray(10**8); del b; print('freed', flush=True); time.sleep(60)"


def test_the_machine_has_what_figures_depend_on() -> None:
    machine = this_machine()
    assert machine.cores == usable_cores() >= 1
    assert machine.memory_gb > 0
    assert {"python", "semia", "torch", "tritonclient", "numpy"} <= set(machine.versions)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say")
def test_memory_counts_at_its_peak_and_descendants_are_found() -> None:
    before = peak_memory_mb([os.getpid()])
    assert before is not None
    with subprocess.Popen([sys.executable, "-c", HOLD_100_MB], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in process_tree(os.getpid())
        peak = peak_memory_mb([process.pid])
        process.kill()
    assert peak is not None
    assert 100 < peak < 200  # freed meanwhile; and not this process's own peak, from which it was forked
    assert peak_memory_mb([process.pid]) is None

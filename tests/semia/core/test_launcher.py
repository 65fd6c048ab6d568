"""A program under the launcher does not outlive its parent."""

import os
import subprocess
import sys

from semia.core import launcher


def test_the_program_replaces_the_launcher() -> None:
    command = launcher.bound_to_this_process(["/bin/sh", "-c", "echo $$ $0 $1", "one", "two words"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=30)
    assert output == f"{process.pid} one two words\n"


def test_nothing_runs_when_the_parent_is_gone_already() -> None:
    command = [sys.executable, launcher.__file__, str(os.getppid()), "/bin/echo", "ran"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout) == (1, "")
    assert "the starting process is gone" in result.stderr

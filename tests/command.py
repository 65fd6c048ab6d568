"""The command in a process of its own, as a person starts it."""

import os
import subprocess
import sys
from pathlib import Path

# One thread: with more, tiny layers on a busy machine wait for each other most of the time.
ENVIRONMENT = os.environ | {"COLUMNS": "100", "OMP_NUM_THREADS": "1"}


def semia(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semia", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=ENVIRONMENT, timeout=240)


def complaint(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line that a failed command says."""
    assert result.returncode == status, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("semia: ")
    return line

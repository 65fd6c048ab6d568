"""The command, as a person starts it, and, for what ends before any work begins, without a process of its own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from semia.cli import main

# One thread: with more, tiny layers on a busy machine wait for each other most of the time.
ENVIRONMENT = os.environ | {"COLUMNS": "100", "OMP_NUM_THREADS": "1"}


def semia(*arguments: str | Path, cwd: Path | None = None, columns: int = 100) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semia", *map(str, arguments)]
    environment = ENVIRONMENT | {"COLUMNS": str(columns)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=240)


def semia_here(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process, which takes a hundredth of the time: for input that is refused."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or Path()),
        mock.patch.object(sys, "argv", ["semia", *map(str, arguments)]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        _signals_as_they_were(),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess([*map(str, arguments)], status, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complaint(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line that a failed command says."""
    assert result.returncode == status, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("semia: ")
    return line

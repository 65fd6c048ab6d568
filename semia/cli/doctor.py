"""``semia doctor``: one screen of what works on this machine, made for bug reports."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from semia.cli.console import log_event, print_view
from semia.core import GRPC_PORT, LOOPBACK, METRICS_PORT, __version__
from semia.core.machine import cpu_name, package_versions, usable_cores

State = Literal["ok", "missing", "broken"]
STYLES: dict[State, str] = {"ok": "green", "missing": "dim", "broken": "red"}

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only looked at
MIN_SHARED_MEMORY_BYTES = 256 << 20
"""Triton's Python backend takes 64 MiB at a time, and containers have 64 MiB in all unless told otherwise."""

PORTS = {"gRPC": GRPC_PORT, "metrics": METRICS_PORT}  # where `semia serve` listens by default


class Finding(NamedTuple):
    """What was looked at, whether it works, and what there is to say of it."""

    subject: str
    state: State
    note: str


def doctor() -> None:
    """Show what works on this machine: versions, GPU, Triton, memory, ports. For bug reports.

    Nothing is started, changed or sent. "missing" is what only some commands need.
    """
    table = Table(box=None, show_header=False)
    for finding in examine():
        table.add_row(finding.subject, Text(finding.state, STYLES[finding.state]), Text(finding.note))
        log_event("examined", subject=finding.subject, state=finding.state, note=finding.note)
    print_view(table)


def examine() -> Iterator[Finding]:
    """Look at everything, one thing after the other."""
    yield Finding("semia", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield Finding("processor", "ok", f"{cpu_name()}, {usable_cores()} cores")
    versions = package_versions()
    yield Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()) or "none")
    for subject, look in EXAMINATIONS.items():
        try:
            yield Finding(subject, *look())
        except ModuleNotFoundError as error:
            yield Finding(subject, "missing", f"{error.name} is not installed")
        except Exception as error:  # whatever is wrong with a library, the others are looked at too
            yield Finding(subject, "broken", " ".join(f"{type(error).__name__}: {error}".split()))


def _cuda() -> tuple[State, str]:
    import torch

    if not torch.cuda.is_available():
        return "missing", f"PyTorch {torch.__version__} sees no GPU"
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return "ok", f"{name}, compute capability {major}.{minor}, CUDA {torch.version.cuda}"


def _onnxruntime() -> tuple[State, str]:
    import onnxruntime

    return "ok", f"{onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}"


def _tensorrt() -> tuple[State, str]:
    if importlib.util.find_spec("tensorrt") is None:
        return "missing", "not installed"
    import tensorrt

    return "ok", str(tensorrt.__version__)


def _triton() -> tuple[State, str]:
    from semia.serving.errors import TritonNotFoundError
    from semia.serving.triton.embedded import WHEEL, locate_embedded_triton

    on_path = shutil.which("tritonserver")
    beside = f"; {on_path} on PATH" if on_path else ""
    try:
        found = locate_embedded_triton()
    except TritonNotFoundError as error:
        return ("ok" if on_path else "missing"), f"{error}{beside}"
    return "ok", f"{WHEEL} {importlib.metadata.version(WHEEL)}, {found.libpython}{beside}"


def _shared_memory() -> tuple[State, str]:
    if not SHARED_MEMORY.is_dir():
        return "missing", f"there is no {SHARED_MEMORY}"
    free = shutil.disk_usage(SHARED_MEMORY).free
    note = f"{free >> 20} MiB free in {SHARED_MEMORY}"
    if not os.access(SHARED_MEMORY, os.W_OK):
        return "broken", f"{note}, not writable"
    return ("ok", note) if free >= MIN_SHARED_MEMORY_BYTES else ("broken", f"{note}: Triton may need more")


def _ports() -> tuple[State, str]:
    taken = []
    for service, port in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                taken.append(f"{service} {port}")
    if taken:
        return "broken", f"taken: {', '.join(taken)} (semia serve --grpc-port, --metrics-port)"
    return "ok", f"free: {', '.join(f'{service} {port}' for service, port in PORTS.items())}"


EXAMINATIONS: dict[str, Callable[[], tuple[State, str]]] = {
    "CUDA": _cuda,
    "ONNX Runtime": _onnxruntime,
    "TensorRT": _tensorrt,
    "Triton": _triton,
    "shared memory": _shared_memory,
    "ports": _ports,
}

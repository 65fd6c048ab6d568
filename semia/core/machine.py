"""The machine that a process runs on: processor, memory, versions of what is installed."""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from semia.core import __version__

PACKAGES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "nvidia-pytriton",
    "tritonclient",
    "grpcio",
    "numpy",
)
"""Distributions whose version can change figures."""

PROC = Path("/proc")


@dataclass(frozen=True)
class Machine:
    """What figures depend on besides the model."""

    cpu: str  # as the processor calls itself
    cores: int  # that this process may use
    memory_gb: float  # physical memory, in units of 1e9 bytes
    system: str  # operating system and architecture
    load: float | None  # processes that wanted to run, mean over the minute before; None where nobody counts them
    versions: dict[str, str]  # of Python, semia and `PACKAGES`


def this_machine() -> Machine:
    """Describe the machine as it is now."""
    return Machine(
        cpu=cpu_name(),
        cores=usable_cores(),
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        system=f"{platform.system()} {platform.machine()}",
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        versions={"python": platform.python_version(), "semia": __version__} | package_versions(),
    )


def cpu_name() -> str:
    """The processor, as it calls itself."""
    info = PROC / "cpuinfo"
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores this process may run on; fewer than the machine has inside many containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_versions() -> dict[str, str]:
    """Versions of those of `PACKAGES` that are installed."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def peak_memory_mb(processes: Iterable[int]) -> float | None:
    """The largest resident memory of each process so far, added up, in units of 1e6 bytes.

    Pages that processes share count for each of them. None where the system does not say (not Linux), or
    where a process has ended.
    """
    try:
        return sum(_peak_bytes(process) for process in processes) / 1e6
    except OSError:
        return None


def process_tree(root: int) -> list[int]:
    """A process and all its descendants, as far as the system names them."""
    found = [root]
    for parent in found:  # grows while it is walked
        found += child_processes(parent)
    return found


def child_processes(parent: int) -> list[int]:
    """Process ids of its children, those that have ended and were not yet waited for included."""
    found = []
    for children in PROC.glob(f"{parent}/task/*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += [int(child) for child in children.read_text(encoding="ascii").split()]
    return found


def _peak_bytes(process: int) -> int:
    # Not getrusage: its figure outlives exec, so a child would report the peak of the parent it was forked from.
    for line in (PROC / str(process) / "status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(process)  # a process that has ended and was not waited for

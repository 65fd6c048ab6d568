"""What the machine can do, and how the process is set up to train fast on it."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

import torch

M_TRIM_THRESHOLD = -1  # of glibc's malloc.h
M_MMAP_THRESHOLD = -3


def prepare_process() -> None:
    """Set the process up for training: fast arithmetic next to zero, and freed memory kept for the next step.

    Affects the whole process, so the one who owns the process calls it, once, before training.
    """
    torch.set_flush_denormal(True)
    # glibc returns blocks above 32 MiB to the kernel as soon as they are freed, and each later allocation
    # then pays for every page anew: six times the cost of, say, an activation's own arithmetic.
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one core within.

    For many small operations: threads would wait for each other at every one of them, and on a machine that has
    other work to do, wait long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 instructions; without them it is far slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))

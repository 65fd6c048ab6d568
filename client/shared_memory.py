"""Label maps and pictures in memory that client and server share, where both are on one machine.

A region holds one label map and the picture made of it. It is made and registered with the server once,
and reused by later calls; as many exist as there were calls at once. Its name in /dev/shm is removed as soon
as the server has opened it, so that no file is left behind however the client ends. The server keeps what a
killed client had registered until it stops, a few MB a client.
"""

import contextlib
import ipaddress
import mmap
import os
import secrets
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput

from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME

SharedMemory = Literal["auto"] | bool
"""Whether label maps and pictures go through shared memory: "auto" where that pays, for large pictures of a server at
an address of this machine; True wherever the server takes part; False never. Where it does not work, calls go
without."""

AUTO_MIN_PIXELS = 250_000
"""From here on "auto" takes it. Of the round trip to a model that does next to nothing it saves 0.6 of 3.9 ms at
570x380, 1.7 of 7.5 ms at 640x427, 6 of 32 ms at 1536x1024: little beside a generator's own time, and less for
smaller ones."""

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is; the names in it cannot be guessed


class Region:
    """Memory for one label map and its picture: ``uint8[H, W]``, then ``uint8[H, W, 3]``."""

    def __init__(self, canvas: Canvas) -> None:
        """Make it under a new name that a server of the same user can open; an OSError if no shared memory is left."""
        self.canvas = canvas
        self.name = f"semia-{secrets.token_hex(16)}"
        self.pixels = canvas.height * canvas.width
        self.size = 4 * self.pixels
        self._path = FOLDER / self.name
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size)  # or a write would end the process where memory is short
            self._memory = mmap.mmap(descriptor, self.size)
        except BaseException:
            self.remove_name()
            raise
        finally:
            os.close(descriptor)

    def remove_name(self) -> None:
        """Make it unreachable by name; who has opened it keeps it."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give this side's view of the memory back."""
        self._memory.close()

    def write(self, ids: ClassIds) -> None:
        """Put the label map in."""
        self._memory[: self.pixels] = ids.tobytes()

    def picture(self) -> NDArray[np.uint8]:
        """A copy of the picture, ``uint8[H, W, 3]``."""
        return np.frombuffer(self._memory[self.pixels :], np.uint8).reshape(*self.canvas, 3)

    def tensors(self) -> tuple[InferInput, InferRequestedOutput]:
        """The request's input and output."""
        target = InferInput(INPUT_NAME, (1, *self.canvas), "UINT8")
        target.set_shared_memory(self.name, self.pixels, offset=0)
        image = InferRequestedOutput(OUTPUT_NAME)
        image.set_shared_memory(self.name, 3 * self.pixels, offset=self.pixels)
        return target, image


class RegionPool:
    """The regions that a client has registered. Threads may share it."""

    def __init__(self, min_pixels: int | None) -> None:
        """Lend regions for canvases of so many pixels or more; None: for none."""
        self._min_pixels = min_pixels
        self._idle: dict[Canvas, deque[Region]] = {}
        self._abandoned: deque[Region] = deque()

    def covers(self, canvas: Canvas) -> bool:
        """Whether a picture of this size should take this way."""
        return self._min_pixels is not None and canvas.height * canvas.width >= self._min_pixels

    def disable(self) -> None:
        """Stop using shared memory: this server does not, or not with us."""
        self._min_pixels = None

    def acquire(self, canvas: Canvas) -> Region | None:
        """An idle region for this canvas, or None where a new one must be made."""
        try:
            return self._idle.setdefault(canvas, deque()).pop()
        except IndexError:
            return None

    @contextlib.contextmanager
    def in_use(self, region: Region) -> Iterator[None]:
        """Use a registered region for one call; afterwards it is idle.

        After an error or an interruption it is never used again, for the server may still be writing into it.
        """
        try:
            yield
        except BaseException:
            self.abandon(region)
            raise
        self._idle[region.canvas].append(region)

    def pop_abandoned(self) -> Region | None:
        """The region that was abandoned first: the server may be done with it by now."""
        try:
            return self._abandoned.popleft()
        except IndexError:
            return None

    def abandon(self, region: Region) -> None:
        """Keep a region that the server is not done with."""
        self._abandoned.append(region)

    def drain(self) -> list[Region]:
        """Every region that is not in use; the caller unregisters and closes them."""
        regions = [*self._abandoned, *(region for idle in self._idle.values() for region in idle)]
        self._abandoned.clear()
        self._idle.clear()
        return regions


def min_pixels(shared_memory: SharedMemory, url: str) -> int | None:
    """From which size on pictures of the server at ``url`` take this way; None: never."""
    if shared_memory == "auto":
        return AUTO_MIN_PIXELS if is_this_machine(url) else None
    return 0 if shared_memory else None


def is_this_machine(url: str) -> bool:
    """Whether an address can only be of this machine, as far as one can tell from it."""
    host = url.rpartition(":")[0].strip("[]")
    if host in ("localhost", "unix") or url.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""What the handlers share."""

import asyncio
import contextlib
import threading
import time

import pytest

from semia.studio.studio import in_background


def test_long_work_answers_and_fails_as_work_does() -> None:
    assert asyncio.run(in_background(lambda: 7)) == 7

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_background(fail))


def test_the_end_of_the_studio_does_not_wait_for_long_work() -> None:
    """Somebody has a layout measured, and presses Ctrl-C."""
    end = threading.Event()

    async def begin() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(in_background(lambda: end.wait(60)), 0.1)

    began = time.monotonic()
    asyncio.run(begin())
    assert time.monotonic() - began < 10
    end.set()

"""One deadline for everything that a call does."""

import time


class Deadline:
    """The moment by which a call is over, however many requests it makes."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left; 0 once the moment has passed."""
        return max(0.0, self._end - time.monotonic())

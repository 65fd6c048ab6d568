"""Trying again, for UNAVAILABLE alone.

By gRPC's definition this is the status of what a later attempt may mend: a server that starts or stops, a full
queue, a model that is being replaced. Nothing else is repeated, but for the NOT_FOUND of a server that says that it
is not live: Triton, while it stops, has unloaded its models already; and the INTERNAL of a model whose process was
killed, which `semia serve` replaces.

A server that is overloaded must not be buried in repetitions: every attempt waits longer than the one before, by
an amount that differs from call to call, and where about half of a client's calls fail, none is repeated any
more until others succeed. Triton's refusal because of a full queue is UNAVAILABLE, too, so it is repeated within
these bounds.

gRPC's own retries would not do: they end where an answer has begun, and so does Triton's answer to an inference while
it starts or stops.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from client.errors import ClientSettingsError

MAX_TOKENS = 100.0
SUCCESS_TOKENS = 0.5
"""A failed attempt takes a token, a success gives half of one back; with half of them left, nothing is repeated."""

JITTER = 0.2
"""Waits differ by as much of their length, so that clients do not come back all at once."""


@dataclass(frozen=True)
class RetryOptions:
    """How a call is repeated whose status is UNAVAILABLE. The call's deadline bounds all attempts together."""

    attempts: int = 6  # the first one counts; 1: never repeat
    first_wait_s: float = 0.1  # before the second attempt
    longest_wait_s: float = 1.5  # by default all waits come to 4.3 s, which is longer than Triton takes to restart
    factor: float = 3.0  # by which waits grow

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise ClientSettingsError(f"attempts must be 1 to 100, not {self.attempts}")
        if not (0 < self.first_wait_s <= self.longest_wait_s < 3600 and 1 <= self.factor < 100):
            raise ClientSettingsError(f"waits must be above 0 and must not shrink: {self}")

    def waits_s(self) -> Iterator[float]:
        """How long to wait before every further attempt."""
        wait_s = self.first_wait_s
        for _ in range(self.attempts - 1):
            yield wait_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - nobody gains by guessing it
            wait_s = min(self.factor * wait_s, self.longest_wait_s)


class Throttle:
    """Knows how a client's calls have fared lately. Threads may share it; a lost count does no harm."""

    def __init__(self) -> None:
        self._tokens = MAX_TOKENS

    def succeeded(self) -> None:
        """Count a success."""
        self._tokens = min(MAX_TOKENS, self._tokens + SUCCESS_TOKENS)

    def failed(self) -> bool:
        """Count a failed attempt; whether it may be repeated."""
        self._tokens = max(0.0, self._tokens - 1)
        return self._tokens > MAX_TOKENS / 2

"""Trying again: gRPC does it, by a service config of ours.

Only UNAVAILABLE is tried again. By gRPC's definition it is the status of what a later attempt may mend (a
server that restarts, a full queue, a model that is being replaced), and the only one that says that
nothing was done. A server that is overloaded must not be buried in repetitions: every attempt waits longer than
the one before, by an amount that differs from client to client, and when about half of a process's calls
to a server fail, none is repeated any more until others succeed. Triton's refusal because of a full queue is
UNAVAILABLE, too, so it is repeated within these bounds.
"""

import json
from dataclasses import dataclass

from client.errors import ClientSettingsError

SERVICE = "inference.GRPCInferenceService"

REPEATABLE = ("ModelInfer", "ModelMetadata", "ModelConfig")
"""Calls that change nothing, and that Triton answers everyone: where a call is kept to operators, it refuses others
with UNAVAILABLE, too. Asking whether the server lives is not repeated: the answer is wanted now."""

MAX_ATTEMPTS = 5
"""gRPC never makes more."""

SHORTEST_WAIT_S = 0.01
"""Of waits below a millisecond gRPC (1.85) does not wake up; jitter included, this is well above."""

THROTTLE = {"maxTokens": 100, "tokenRatio": 0.5}
"""A failed attempt takes a token, a success gives half of one; at 50 or fewer nothing is repeated."""


@dataclass(frozen=True)
class RetryOptions:
    """How a call is repeated whose status is UNAVAILABLE. The call's deadline bounds all attempts together."""

    attempts: int = MAX_ATTEMPTS  # the first one counts; 1: never repeat
    first_wait_s: float = 0.1  # before the second attempt; every wait differs from what is said here by up to 20 %
    longest_wait_s: float = 1.5
    factor: float = 3.0  # by which waits grow

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ClientSettingsError(f"attempts must be 1 to {MAX_ATTEMPTS}, which is gRPC's limit: {self.attempts}")
        if not (SHORTEST_WAIT_S <= self.first_wait_s <= self.longest_wait_s < 3600 and 1 <= self.factor < 100):
            raise ClientSettingsError(f"waits must be {SHORTEST_WAIT_S} s or more and must not shrink: {self}")

    def service_config(self) -> str:
        """The options as gRPC takes them."""
        if self.attempts == 1:
            return json.dumps({})
        policy = {
            "maxAttempts": self.attempts,
            "initialBackoff": f"{self.first_wait_s:.3f}s",
            "maxBackoff": f"{self.longest_wait_s:.3f}s",
            "backoffMultiplier": self.factor,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        calls = [{"service": SERVICE, "method": method} for method in REPEATABLE]
        return json.dumps({"methodConfig": [{"name": calls, "retryPolicy": policy}], "retryThrottling": THROTTLE})

"""Ask a server for pictures: ``SynthesisClient().synthesize("building", "painting.png")``."""

from client.asynchronous import AsyncSynthesisClient
from client.description import ModelDescription
from client.errors import (
    AccessRefusedError,
    ClientError,
    ClientSettingsError,
    DeadlineExceededError,
    NotASemiaModelError,
    ServerRefusedError,
    ServerUnavailableError,
    TargetSizeError,
    TargetTypeError,
    TlsError,
    UnknownColourError,
    UnknownModelError,
    UnreadableTargetError,
)
from client.many import Outcome
from client.retries import RetryOptions
from client.settings import DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT_S, DEFAULT_URL
from client.shared_memory import SharedMemory
from client.synthesis import SynthesisClient
from client.target import Target
from semia.access import TlsOptions, read_admin_key

__all__ = [
    "DEFAULT_CONCURRENCY",
    "DEFAULT_TIMEOUT_S",
    "DEFAULT_URL",
    "AccessRefusedError",
    "AsyncSynthesisClient",
    "ClientError",
    "ClientSettingsError",
    "DeadlineExceededError",
    "ModelDescription",
    "NotASemiaModelError",
    "Outcome",
    "RetryOptions",
    "ServerRefusedError",
    "ServerUnavailableError",
    "SharedMemory",
    "SynthesisClient",
    "Target",
    "TargetSizeError",
    "TargetTypeError",
    "TlsError",
    "TlsOptions",
    "UnknownColourError",
    "UnknownModelError",
    "UnreadableTargetError",
    "read_admin_key",
]

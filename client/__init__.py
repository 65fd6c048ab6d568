"""Ask a server for pictures: ``SynthesisClient().synthesize("building", "painting.png")``."""

from semia.client.client import DEFAULT_CONCURRENCY, AsyncSynthesisClient, Outcome, SynthesisClient
from semia.client.connection import DEFAULT_TIMEOUT_S
from semia.client.errors import (
    AccessRefusedError,
    ClientError,
    ClientSettingsError,
    ClientUseError,
    DeadlineExceededError,
    NotASemiaModelError,
    ServerRefusedError,
    ServerUnavailableError,
    TargetSizeError,
    TargetTypeError,
    TlsError,
    UnknownColorError,
    UnknownModelError,
    UnreadableTargetError,
)
from semia.client.protocol import ModelDescription
from semia.client.shared_memory import SharedMemory
from semia.client.transport import RetryOptions
from semia.core import DEFAULT_URL
from semia.core.access import TlsOptions, read_admin_key
from semia.core.labels import Target

__all__ = [
    "DEFAULT_CONCURRENCY",
    "DEFAULT_TIMEOUT_S",
    "DEFAULT_URL",
    "AccessRefusedError",
    "AsyncSynthesisClient",
    "ClientError",
    "ClientSettingsError",
    "ClientUseError",
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
    "UnknownColorError",
    "UnknownModelError",
    "UnreadableTargetError",
    "read_admin_key",
]

"""Ask a server for pictures: ``SynthesisClient().synthesize("building", "painting.png")``."""

from client.description import ModelDescription
from client.errors import (
    ClientError,
    ClientSettingsError,
    DeadlineExceededError,
    NotASemiaModelError,
    ServerRefusedError,
    ServerUnavailableError,
    TargetSizeError,
    TargetTypeError,
    UnknownColourError,
    UnknownModelError,
    UnreadableTargetError,
)
from client.synthesis import DEFAULT_TIMEOUT_S, DEFAULT_URL, SynthesisClient
from client.target import Target

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "DEFAULT_URL",
    "ClientError",
    "ClientSettingsError",
    "DeadlineExceededError",
    "ModelDescription",
    "NotASemiaModelError",
    "ServerRefusedError",
    "ServerUnavailableError",
    "SynthesisClient",
    "Target",
    "TargetSizeError",
    "TargetTypeError",
    "UnknownColourError",
    "UnknownModelError",
    "UnreadableTargetError",
]

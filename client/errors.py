"""What can go wrong in a call; whatever `semia.client.SynthesisClient` raises is a `ClientError`.

SemiaError
└── ClientError                                  the call failed: exits 1
    ├── ServerUnavailableError                   no server answers at the address
    │   └── TlsError                             one does, but client and server do not agree on TLS
    ├── DeadlineExceededError                    the call took longer than its deadline
    ├── ServerRefusedError                       the server answered with an error
    │   └── AccessRefusedError                   the server keeps the call to its operators
    ├── ClientSettingsError (InputError)         the client was made with impossible settings: exits 2
    ├── ClientUseError (InputError)              the client is closed, or of another event loop: exits 2
    ├── UnknownModelError (InputError)           the server does not serve that model or version: exits 2
    ├── NotASemiaModelError (InputError)         the model is served, but is not one of semia's: exits 2
    ├── TargetTypeError (LabelMapTypeError)      the target is no label map at all: exits 2
    ├── UnreadableTargetError (ImageError)       the target's picture cannot be read: exits 2
    ├── TargetSizeError (LabelMapSizeError)      the target does not fit the model's canvas: exits 2
    └── UnknownColorError (LabelMapColorError) the target has a color that the model does not know: exits 2

`semia.client.transport` turns gRPC's errors into these, `semia.client.protocol` those of `semia.core.labels`.
"""

from semia.core import errors
from semia.core.errors import (
    ImageError,
    InputError,
    LabelMapColorError,
    LabelMapSizeError,
    LabelMapTypeError,
    SemiaError,
)


class ClientError(SemiaError):
    """A call to a server failed, or was not made because it could not succeed."""


class ServerUnavailableError(ClientError):
    """No server answers at the address."""


class TlsError(ServerUnavailableError):
    """Client and server do not agree on TLS: on whether to use it, or on a certificate."""


class DeadlineExceededError(ClientError):
    """The call took longer than its deadline; the server may still be working on it."""


class ServerRefusedError(ClientError):
    """The server answered with an error of its own."""


class AccessRefusedError(ServerRefusedError, errors.AccessRefusedError):
    """The server keeps the call to its operators; the admin key was missing or wrong."""


class ClientSettingsError(ClientError, InputError):
    """A client cannot be made with this address, deadline, certificate or bound."""


class ClientUseError(ClientError, InputError):
    """The client is closed, or is used in a second event loop while the first still runs."""


class UnknownModelError(ClientError, InputError):
    """The server serves no such model, or no such version of it."""


class NotASemiaModelError(ClientError, InputError):
    """The model is served, but without the parameters or the output of a published generator."""


class TargetTypeError(ClientError, LabelMapTypeError):
    """The target is neither a picture nor class ids: its type, dtype, shape or values are impossible."""


class UnreadableTargetError(ClientError, ImageError):
    """The target's picture is missing, broken, too large, or not a picture."""


class TargetSizeError(ClientError, LabelMapSizeError):
    """The target does not fit the model's canvas."""


class UnknownColorError(ClientError, LabelMapColorError):
    """The target has an area of a color that is far from all of the model's classes."""

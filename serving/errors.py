"""What can go wrong between a bundle and a running server. What is also an `InputError` exits 2, the rest 1."""

from semia.core import errors
from semia.core.errors import InputError, SemiaError


class ServingError(SemiaError):
    """Publishing or serving failed."""


class BundleError(ServingError, InputError):
    """A bundle lacks a file, or its graph is not the one its card describes."""


class RepositoryError(ServingError, InputError):
    """A model repository is missing or holds no model."""


class PublishError(ServingError):
    """The repository cannot be written; it is as it was before."""


class ClassesChangedError(PublishError, InputError):
    """Class ids or colors would mean other classes than in the version before, and the caller did not allow that."""


class ServerError(ServingError):
    """The Triton process, or a call that controls it, failed."""


class PortTakenError(ServerError, InputError):
    """Another program already listens on a port the server was told to use."""


class TritonNotFoundError(ServerError):
    """Triton, or something it needs to run here, is not installed."""


class ServerStartError(ServerError):
    """Triton ended, was not ready in time, or could load no model."""


class ServerUnreachableError(ServerError):
    """No Triton server answers at the given address."""


class AccessRefusedError(ServerError, errors.AccessRefusedError):
    """A running server keeps a call to its operators, and the admin key was missing or wrong."""


class ModelLoadError(ServerError):
    """A running server could not load a model; it goes on serving the version it had."""


class ModelUnloadError(ServerError):
    """A running server does not let go of a model."""


class ModelAnswerError(ServerError):
    """A version that a server has loaded does not answer as its card says."""


class ModelNotFoundError(ServerError):
    """There is no such model in the repository."""


class ModelUnloadedError(ServerError):
    """An operator unloaded the model, and has not loaded it again."""


class NoRoomError(ServerError):
    """As many models as may be loaded are, and none could leave in time."""

"""Publishing bundles into a model repository, and running the Triton that serves it."""

from semia.accelerators import Accelerator
from semia.access import ServerAccess, TlsOptions
from serving.control import ModelState, load_model, model_states
from serving.errors import (
    AccessRefusedError,
    BundleError,
    ModelLoadError,
    PortTakenError,
    PublishError,
    RepositoryError,
    ServerError,
    ServerStartError,
    ServerUnreachableError,
    ServingError,
    TritonNotFoundError,
)
from serving.model_config import ServingSettings, config_text, model_config
from serving.repository import PublishedModel, RepositoryModel, list_models, publish
from serving.server import ServerOptions, TritonServer, find_triton
from serving.tls import ServerTls

__all__ = [
    "Accelerator",
    "AccessRefusedError",
    "BundleError",
    "ModelLoadError",
    "ModelState",
    "PortTakenError",
    "PublishError",
    "PublishedModel",
    "RepositoryError",
    "RepositoryModel",
    "ServerAccess",
    "ServerError",
    "ServerOptions",
    "ServerStartError",
    "ServerTls",
    "ServerUnreachableError",
    "ServingError",
    "ServingSettings",
    "TlsOptions",
    "TritonNotFoundError",
    "TritonServer",
    "config_text",
    "find_triton",
    "list_models",
    "load_model",
    "model_config",
    "model_states",
    "publish",
]

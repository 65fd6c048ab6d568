"""Publishing bundles into a model repository, and running the Triton that serves it."""

from semia.accelerators import Accelerator
from serving.control import ModelState, load_model, model_states
from serving.errors import (
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
from serving.mirror import cache_folder, mirror
from serving.model_config import ServingSettings, config_text, model_config
from serving.object_store import ObjectRepository, StoredVersion, is_object_store
from serving.repository import PublishedModel, RepositoryModel, list_models, publish
from serving.server import ServerOptions, TritonServer, find_triton

__all__ = [
    "Accelerator",
    "BundleError",
    "ModelLoadError",
    "ModelState",
    "ObjectRepository",
    "PortTakenError",
    "PublishError",
    "PublishedModel",
    "RepositoryError",
    "RepositoryModel",
    "ServerError",
    "ServerOptions",
    "ServerStartError",
    "ServerUnreachableError",
    "ServingError",
    "ServingSettings",
    "StoredVersion",
    "TritonNotFoundError",
    "TritonServer",
    "cache_folder",
    "config_text",
    "find_triton",
    "is_object_store",
    "list_models",
    "load_model",
    "mirror",
    "model_config",
    "model_states",
    "publish",
]

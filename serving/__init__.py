"""Publishing bundles into a model repository, and running the Triton that serves it."""

from semia.accelerators import Accelerator
from serving.control import ModelState, check_answer, load_model, model_states, unload_model
from serving.errors import (
    BundleError,
    ModelAnswerError,
    ModelLoadError,
    ModelUnloadError,
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

__all__ = [
    "Accelerator",
    "BundleError",
    "ModelAnswerError",
    "ModelLoadError",
    "ModelState",
    "ModelUnloadError",
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
    "TritonNotFoundError",
    "TritonServer",
    "check_answer",
    "config_text",
    "find_triton",
    "list_models",
    "load_model",
    "model_config",
    "model_states",
    "publish",
    "unload_model",
]

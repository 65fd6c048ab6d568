"""Publishing bundles into a model repository, and running the Triton that serves it."""

from semia.accelerators import Accelerator
from semia.access import ServerAccess, TlsOptions
from serving.control import ModelState, check_answer, load_model, model_states, unload_model
from serving.errors import (
    AccessRefusedError,
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
from serving.lifecycle import Rollback, Update, prune, publish_and_load, remove, rollback
from serving.mirror import cache_folder, mirror
from serving.model_config import ServingSettings, config_text, model_config
from serving.object_store import ObjectRepository, StoredVersion, is_object_store
from serving.overview import ModelOverview, Overview, overview
from serving.repository import PublishedModel, RepositoryModel, list_models, present_settings, publish
from serving.server import TritonServer, find_triton
from serving.server_options import ServerOptions
from serving.tls import ServerTls
from serving.verification import Verification, verify, verify_exported

__all__ = [
    "Accelerator",
    "AccessRefusedError",
    "BundleError",
    "ModelAnswerError",
    "ModelLoadError",
    "ModelOverview",
    "ModelState",
    "ModelUnloadError",
    "ObjectRepository",
    "Overview",
    "PortTakenError",
    "PublishError",
    "PublishedModel",
    "RepositoryError",
    "RepositoryModel",
    "Rollback",
    "ServerAccess",
    "ServerError",
    "ServerOptions",
    "ServerStartError",
    "ServerTls",
    "ServerUnreachableError",
    "ServingError",
    "ServingSettings",
    "StoredVersion",
    "TlsOptions",
    "TritonNotFoundError",
    "TritonServer",
    "Update",
    "Verification",
    "cache_folder",
    "check_answer",
    "config_text",
    "find_triton",
    "is_object_store",
    "list_models",
    "load_model",
    "mirror",
    "model_config",
    "model_states",
    "overview",
    "present_settings",
    "prune",
    "publish",
    "publish_and_load",
    "remove",
    "rollback",
    "unload_model",
    "verify",
    "verify_exported",
]

"""Publishing bundles into a model repository, and running the Triton that serves it."""

from semia.core.access import ServerAccess, TlsOptions
from semia.core.model_card import Accelerator
from semia.serving.errors import (
    AccessRefusedError,
    BundleError,
    ClassesChangedError,
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
from semia.serving.model_config import ServingSettings, config_text, model_config
from semia.serving.repository.inventory import ModelOverview, Overview, Verification, overview, verify, verify_exported
from semia.serving.repository.layout import PublishedModel, RepositoryModel, list_models, present_settings
from semia.serving.repository.lifecycle import Rollback, Update, prune, publish, publish_and_load, remove, rollback
from semia.serving.repository.object_store import ObjectRepository, StoredVersion, cache_folder, is_object_store, mirror
from semia.serving.triton.control import ModelState, check_answer, load_model, model_states, unload_model
from semia.serving.triton.options import ServerOptions, ServerTls
from semia.serving.triton.server import TritonServer, find_triton

__all__ = [
    "Accelerator",
    "AccessRefusedError",
    "BundleError",
    "ClassesChangedError",
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

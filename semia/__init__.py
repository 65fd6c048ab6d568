"""Semantic image analogy: one photograph and its label map in, a generator served by Triton out.

From a scene folder to pictures over gRPC::

    import semia

    run = semia.train("pagoda")
    bundle = semia.export(run)
    semia.publish(bundle, "model_repository")
    with semia.TritonServer("model_repository") as server, semia.SynthesisClient(server.grpc_url) as client:
        client.synthesize("pagoda", "layout.png").save("picture.png")

Names are loaded when they are first used: this import alone loads neither PyTorch nor gRPC nor ONNX Runtime.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semia.core import __version__

if TYPE_CHECKING:
    from semia.api import evaluate as evaluate
    from semia.api import publish as publish
    from semia.api import render as render
    from semia.api import train as train
    from semia.client import AsyncSynthesisClient as AsyncSynthesisClient
    from semia.client import ClientError as ClientError
    from semia.client import RetryOptions as RetryOptions
    from semia.client import SynthesisClient as SynthesisClient
    from semia.core.access import ServerAccess as ServerAccess
    from semia.core.access import TlsOptions as TlsOptions
    from semia.core.errors import AccessRefusedError as AccessRefusedError
    from semia.core.errors import ImageError as ImageError
    from semia.core.errors import InputError as InputError
    from semia.core.errors import LabelMapError as LabelMapError
    from semia.core.errors import SemiaError as SemiaError
    from semia.export.errors import ExportError as ExportError
    from semia.export.exporter import export as export
    from semia.serving import ServerOptions as ServerOptions
    from semia.serving import ServerTls as ServerTls
    from semia.serving import ServingError as ServingError
    from semia.serving import ServingSettings as ServingSettings
    from semia.serving import TritonServer as TritonServer
    from semia.training.errors import TrainingError as TrainingError

# In a checkout, the rooms (semia.client, semia.training, ...) lie beside this folder; installed, they lie within it.
_FOLDER = Path(__file__).resolve().parent
if not (_FOLDER / "client").is_dir():
    __path__.append(str(_FOLDER.parent))

_NAMES = {
    "semia.api": ("evaluate", "publish", "render", "train"),
    "semia.client": ("AsyncSynthesisClient", "ClientError", "RetryOptions", "SynthesisClient"),
    "semia.core.access": ("ServerAccess", "TlsOptions"),
    "semia.core.errors": ("AccessRefusedError", "ImageError", "InputError", "LabelMapError", "SemiaError"),
    "semia.export.errors": ("ExportError",),
    "semia.serving": ("ServerOptions", "ServerTls", "ServingError", "ServingSettings", "TritonServer"),
    "semia.training.errors": ("TrainingError",),
}
"""The public names by where they are defined. `export` is a package that can be called: see `semia.export`."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", "export", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "export":
        return importlib.import_module("semia.export")
    if name not in _MODULES:
        raise AttributeError(f"module 'semia' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

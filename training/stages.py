"""Naming the parts of a computation, so that an exported graph still says which of its nodes belong to which part."""

import contextlib
from collections.abc import Iterator

import torch.fx.traceback

STAGE_KEY = "stage"
"""Of the annotation that a traced node carries in its ``meta["custom"]``."""


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Whatever is traced within belongs to this stage; of nested ones the innermost counts.

    It changes no result, and nothing at all where nothing is traced.
    """
    with torch.fx.traceback.annotate({STAGE_KEY: name}):
        yield

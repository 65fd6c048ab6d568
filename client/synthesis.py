"""The client: label maps in, pictures out."""

import math
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from PIL import Image

from client.connection import Connection, Deadline
from client.description import ModelDescription
from client.errors import (
    ClientSettingsError,
    ServerRefusedError,
    TargetSizeError,
    TargetTypeError,
    UnknownColourError,
    UnknownModelError,
)
from client.target import Target, class_ids_from_target
from semia.labels import ClassIds

DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 30.0

_MAY_BE_OUTDATED = (TargetSizeError, TargetTypeError, UnknownColourError, UnknownModelError, ServerRefusedError)
"""Errors that a description from before the model was published anew can cause."""

Result = TypeVar("Result")


class SynthesisClient:
    """A client of one server; threads may share it.

    The connection is not encrypted and carries no password: reach a server on another machine through a
    network you trust, or a tunnel. It is made by the first call, not by the constructor.

    A model's description is remembered, so that a synthesis costs one request. When the model is
    published anew meanwhile, the first call to notice asks for the new description and starts over; no
    picture is returned that was made from a label map read with another version's palette. (Class ids are
    sent as they are: what they mean is the caller's affair.)
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Make a client of the server at ``url`` (HOST:PORT of its gRPC service).

        ``timeout_s`` bounds each call of a method, connecting included.

        Raises:
            ClientSettingsError: if either is impossible.
        """
        if "://" in url or ":" not in url:
            raise ClientSettingsError(f"{url!r} is not the address of a server: write HOST:PORT, like {DEFAULT_URL}")
        if not 0 < timeout_s < math.inf:
            raise ClientSettingsError(f"timeout_s must be a finite number of seconds above 0, not {timeout_s}")
        self._timeout_s = timeout_s
        self._connection = Connection(url)
        self._descriptions: dict[str, ModelDescription] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the client cannot be used afterwards."""
        self._connection.close()

    def models(self) -> list[str]:
        """The names of the models that are ready, sorted.

        Raises:
            ServerUnavailableError: if no server answers at the address.
            DeadlineExceededError: if it takes longer than ``timeout_s``.
            ServerRefusedError: if the server answers with an error.
        """
        return sorted({model.name for model in self._connection.ready_models(Deadline(self._timeout_s))})

    def describe(self, model: str) -> ModelDescription:
        """What the server says about a model, now: its versions, canvas and classes.

        Raises:
            UnknownModelError: if it is not among `models`; the message lists those.
            NotASemiaModelError: if it is no published generator.
            ServerUnavailableError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return self._describe(model, Deadline(self._timeout_s))

    def class_ids(self, model: str, target: Target) -> ClassIds:
        """The class ids ``uint8[H, W]`` that `synthesize` sends for a target: how its colours were understood.

        Raises:
            TargetTypeError: if the target is none of the forms of `client.Target`, or an id has no class.
            UnreadableTargetError: if its picture cannot be read.
            TargetSizeError: if it does not fit the model's canvas.
            UnknownColourError: if an area has a colour far from every class.
            UnknownModelError, NotASemiaModelError: as `describe`.
            ServerUnavailableError, DeadlineExceededError, ServerRefusedError: as `models`.
        """
        return self._with_description(
            model, Deadline(self._timeout_s), lambda description: class_ids_from_target(target, description)
        )

    def synthesize(self, model: str, target: Target, *, version: str = "") -> Image.Image:
        """The model's picture of a target, at the size of its canvas.

        An empty ``version`` means the latest. The target is read with the model's current palette,
        whichever version is asked for.

        Raises:
            UnknownModelError: if the model or the version is not ready; the message lists those that are.
            Everything else as `class_ids`.
        """
        deadline = Deadline(self._timeout_s)

        def synthesize_as_described(description: ModelDescription) -> Image.Image:
            if version and version not in description.versions:
                raise UnknownModelError(
                    f"model {model!r} has no version {version!r}; ready: {', '.join(description.versions)}"
                )
            ids = class_ids_from_target(target, description)
            answer = self._connection.infer(model, version, ids, deadline)
            if answer.version != (version or description.latest_version):
                raise ServerRefusedError(f"model {model!r} was published anew during the call: call again")
            return Image.fromarray(answer.picture)

        return self._with_description(model, deadline, synthesize_as_described)

    def _with_description(self, model: str, deadline: Deadline, use: Callable[[ModelDescription], Result]) -> Result:
        """Use the remembered description; if that fails and the server's has changed, use the new one."""
        remembered = self._descriptions.get(model)
        if remembered is None:
            return use(self._describe(model, deadline))
        try:
            return use(remembered)
        except _MAY_BE_OUTDATED:
            current = self._describe(model, deadline)
            if current == remembered:
                raise
        return use(current)

    def _describe(self, model: str, deadline: Deadline) -> ModelDescription:
        # Versions first: were the model published anew between the two requests, its answers would then
        # show a version that this description does not know, and it would be asked for again.
        self._descriptions.pop(model, None)
        ready = self._connection.ready_models(deadline)
        versions = tuple(sorted((entry.version for entry in ready if entry.name == model), key=int))
        if not versions:
            others = ", ".join(sorted({entry.name for entry in ready})) or "none"
            raise UnknownModelError(f"the server has no model {model!r} ready; models: {others}")
        parameters = self._connection.model_parameters(model, deadline)
        description = ModelDescription.from_parameters(model, versions, parameters)
        self._descriptions[model] = description
        return description

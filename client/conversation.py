"""What the clients say to a server, and what they make of its answers and errors: all but the waiting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from client.deadline import Deadline
from client.description import ModelDescription
from client.errors import (
    AccessRefusedError,
    ServerRefusedError,
    TargetSizeError,
    TargetTypeError,
    UnknownColourError,
    UnknownModelError,
)
from client.exchange import Exchange, status_code
from client.inference import Inference
from client.retries import RetryOptions
from client.shared_memory import Regions
from client.steps import Conversation, Work
from client.target import Target, class_ids_from_target
from semia.access import ServerAccess
from semia.labels import ClassIds

_MAY_BE_OUTDATED = (TargetSizeError, TargetTypeError, UnknownColourError, UnknownModelError, ServerRefusedError)
"""Errors that a description from before the model was published anew can cause."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """What a model made of a label map."""

    picture: NDArray[np.uint8]  # [H, W, 3]
    ids: ClassIds  # what it was made of, as it was sent
    version: str  # of the model that made it
    model: ModelDescription  # by which the target was read


class Talk:
    """The conversations with one server, and what is remembered from one to the next. Threads may share it."""

    def __init__(self, url: str, access: ServerAccess, retries: RetryOptions, regions: Regions) -> None:
        self._exchange = Exchange(url, access, retries)
        self._inference = Inference(self._exchange, regions)
        self._descriptions: dict[str, ModelDescription] = {}

    def models(self, deadline: Deadline) -> Conversation[list[str]]:
        """The names of the models that are ready, sorted."""
        index = yield from self._exchange.ask(
            lambda triton, left_s: triton.get_model_repository_index(
                headers=self._exchange.access.headers, client_timeout=left_s
            ),
            deadline,
        )
        return sorted({entry.name for entry in index.models if entry.state == "READY"})

    def describe(self, model: str, deadline: Deadline) -> Conversation[ModelDescription]:
        """What the server says about a model, now."""
        # Versions first: were the model published anew between the two requests, its answers would then
        # show a version that this description does not know, and it would be asked for again.
        self._descriptions.pop(model, None)
        try:
            metadata = yield from self._exchange.attempt(
                lambda triton, left_s: triton.get_model_metadata(model, client_timeout=left_s), deadline
            )
        except InferenceServerException as error:
            if status_code(error) == "NOT_FOUND":
                raise (yield from self._unknown_model(model, deadline)) from error
            raise (yield from self._exchange.client_error(error, deadline)) from error
        response = yield from self._exchange.ask(
            lambda triton, left_s: triton.get_model_config(model, client_timeout=left_s), deadline
        )
        parameters = {key: parameter.string_value for key, parameter in response.config.parameters.items()}
        versions = tuple(sorted(metadata.versions, key=int))
        if not versions:
            raise (yield from self._unknown_model(model, deadline))
        description = ModelDescription.from_parameters(model, versions, parameters)
        self._descriptions[model] = description
        return description

    def class_ids(self, model: str, target: Target, deadline: Deadline) -> Conversation[ClassIds]:
        """How a target is understood."""

        def read(description: ModelDescription) -> Conversation[ClassIds]:
            ids: ClassIds = yield Work(lambda: class_ids_from_target(target, description))
            return ids

        return (yield from self._with_description(model, deadline, read))

    def synthesize(self, model: str, target: Target, version: str, deadline: Deadline) -> Conversation[Answer]:
        """The model's picture of a target; an empty ``version`` means the latest."""

        def synthesize_as_described(description: ModelDescription) -> Conversation[Answer]:
            if version and version not in description.versions:
                raise UnknownModelError(
                    f"model {model!r} has no version {version!r}; ready: {', '.join(description.versions)}"
                )
            ids: ClassIds = yield Work(lambda: class_ids_from_target(target, description))
            picture, answered_by = yield from self._inference.infer(model, version, ids, deadline)
            if answered_by != (version or description.latest_version):
                raise ServerRefusedError(f"model {model!r} was published anew during the call: call again")
            return Answer(picture, ids, answered_by, description)

        return (yield from self._with_description(model, deadline, synthesize_as_described))

    def close(self) -> Conversation[None]:
        """Take leave of the server."""
        return self._inference.close()

    def _with_description(
        self, model: str, deadline: Deadline, use: Callable[[ModelDescription], Conversation[Result]]
    ) -> Conversation[Result]:
        """Use the remembered description; if that fails and the server's has changed, use the new one."""
        remembered = self._descriptions.get(model)
        if remembered is None:
            return (yield from use((yield from self.describe(model, deadline))))
        try:
            return (yield from use(remembered))
        except _MAY_BE_OUTDATED:
            current = yield from self.describe(model, deadline)
            if current == remembered:
                raise
        return (yield from use(current))

    def _unknown_model(self, model: str, deadline: Deadline) -> Conversation[UnknownModelError]:
        try:
            # One that became ready between the two questions must not be called missing.
            others = ", ".join(name for name in (yield from self.models(deadline)) if name != model) or "none"
        except AccessRefusedError:
            others = "known to the server's operators"
        return UnknownModelError(f"the server has no model {model!r} ready; models: {others}")

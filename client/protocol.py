"""What is asked of a server and how its answers are read: descriptions and inference.

Pictures travel in the answer or through shared memory. `semia.client.transport` does the waiting.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from semia.client.errors import (
    AccessRefusedError,
    NotASemiaModelError,
    ServerRefusedError,
    TargetSizeError,
    TargetTypeError,
    UnknownColourError,
    UnknownModelError,
)
from semia.client.shared_memory import Region, Regions
from semia.client.target import ModelDescription, class_ids_from_target
from semia.client.transport import (
    Ask,
    Call,
    Conversation,
    Deadline,
    Exchange,
    Pause,
    RetryOptions,
    Work,
    status_code,
    status_message,
)
from semia.core.access import RESTRICTED, ServerAccess
from semia.core.labels import Canvas, ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.core.targets import Target

UNREGISTER_TIMEOUT_S = 2.0
UNREGISTER_POLL_S = 0.02
"""For taking leave of a server that is busy with cancelled calls, or not quite done with those it answered."""

IN_USE = "currently in use"
"""Triton's reason not to forget a region yet."""

_MAY_BE_OUTDATED = (TargetSizeError, TargetTypeError, UnknownColourError, UnknownModelError, ServerRefusedError)
"""Errors that a description from before the model was published anew can cause."""

Result = TypeVar("Result")


class Inference:
    """Label maps in, pictures out, by whichever way the server takes part in. Threads may share it."""

    def __init__(self, exchange: Exchange, regions: Regions) -> None:
        self._exchange = exchange
        self._regions = regions

    def infer(
        self, model: str, version: str, ids: ClassIds, deadline: Deadline
    ) -> Conversation[tuple[NDArray[np.uint8], str]]:
        """The picture ``uint8[H, W, 3]`` of class ids ``uint8[H, W]``, and the version that made it."""
        canvas = Canvas(*ids.shape)
        if self._regions.worthwhile(canvas):
            region = yield from self._region(canvas)
            if region is not None:
                try:
                    return (yield from self._infer_through(region, model, version, ids, deadline))
                except InferenceServerException as error:
                    if not _is_about_memory(error):
                        raise (yield from self._exchange.client_error(error, deadline)) from error
        batch = ids[np.newaxis]
        target = InferInput(INPUT_NAME, batch.shape, "UINT8")
        target.set_data_from_numpy(batch)
        image = InferRequestedOutput(OUTPUT_NAME)
        result = yield from self._exchange.ask(_infer(model, version, target, image), deadline)
        response = result.get_response()
        pictures = result.as_numpy(OUTPUT_NAME)
        _check_answer(model, ids, None if pictures is None else (pictures.dtype.name.upper(), pictures.shape))
        return pictures[0], response.model_version

    def close(self) -> Conversation[None]:
        """Have the server give shared memory back; it does so once it has finished what was asked of it."""
        regions, until = self._regions.give_up_all(), time.monotonic() + UNREGISTER_TIMEOUT_S
        while regions:
            in_use = []
            for region in regions:
                if time.monotonic() < until and not (yield from self._unregister(region)):
                    in_use.append(region)
            regions = in_use
            if regions:
                yield Pause(UNREGISTER_POLL_S)

    def _infer_through(
        self, region: Region, model: str, version: str, ids: ClassIds, deadline: Deadline
    ) -> Conversation[tuple[NDArray[np.uint8], str]]:
        with self._regions.lent(region):
            region.write(ids)
            result = yield from self._exchange.attempt(_infer(model, version, *region.tensors()), deadline)
            output = result.get_output(OUTPUT_NAME)
            _check_answer(model, ids, None if output is None else (output.datatype, tuple(output.shape)))
            return region.picture(), result.get_response().model_version

    def _region(self, canvas: Canvas) -> Conversation[Region | None]:
        """A registered region; None where there is none to be had, and the call goes without."""
        region = self._regions.take(canvas)
        if region is not None:
            return region
        if (abandoned := self._regions.take_abandoned()) and not (yield from self._unregister(abandoned)):
            self._regions.abandon(abandoned)
        try:
            region = Region(canvas)
        except OSError:
            self._regions.disable()
            return None
        try:
            yield Ask(_register(region, self._exchange.access.headers))
        except InferenceServerException as error:
            self._regions.abandon(region)  # a server that was late may have it
            # Another machine behind a tunnel, a container, another user, a server that restricts it. One that
            # is not there, or late, will be met again by the call itself.
            if status_code(error) not in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or RESTRICTED in status_message(error):
                self._regions.disable()
            return None
        except BaseException:
            self._regions.abandon(region)
            raise
        finally:
            region.remove_name()
        return region

    def _unregister(self, region: Region) -> Conversation[bool]:
        """Have the server forget a region; False if it still uses it."""
        try:
            yield Ask(_unregister(region.name, self._exchange.access.headers))
        except InferenceServerException as error:
            if IN_USE in status_message(error):
                return False  # of a server that is gone, or was started anew, nothing is left to be forgotten
        region.close()
        return True


def _infer(model: str, version: str, target: InferInput, image: InferRequestedOutput) -> Call:
    return lambda triton, left_s: triton.infer(
        model, [target], model_version=version, outputs=[image], client_timeout=left_s
    )


def _register(region: Region, headers: dict[str, str]) -> Call:
    return lambda triton, left_s: triton.register_system_shared_memory(
        region.name, f"/{region.name}", region.size, headers=headers, client_timeout=left_s
    )


def _unregister(name: str, headers: dict[str, str]) -> Call:
    return lambda triton, left_s: triton.unregister_system_shared_memory(
        name, headers=headers, client_timeout=min(left_s, UNREGISTER_TIMEOUT_S)
    )


def _check_answer(model: str, ids: ClassIds, received: tuple[str, tuple[int, ...]] | None) -> None:
    """Make sure that an output's type and shape, None where there was none, are those of one picture.

    Raises:
        NotASemiaModelError: if they are not.
    """
    expected = (1, *ids.shape, 3)
    if received != ("UINT8", expected):
        described = "nothing" if received is None else f"{received[0].lower()}{list(received[1])}"
        raise NotASemiaModelError(
            f"model {model!r} answered {described} where uint8{list(expected)} was expected: "
            "publish it anew with `semia publish`"
        )


def _is_about_memory(error: InferenceServerException) -> bool:
    """Whether the server does not know a region, as one that was started anew does not."""
    return "shared memory region" in status_message(error)


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

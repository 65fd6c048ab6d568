"""What is asked of a server and how its answers are read: descriptions and inference.

Pictures travel in the answer or through shared memory. `semia.client.transport` does the waiting.
"""

import json
import time
from collections.abc import Callable, Mapping
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
    UnknownColorError,
    UnknownModelError,
    UnreadableTargetError,
)
from semia.client.shared_memory import Region, RegionPool
from semia.client.transport import (
    Caller,
    ClientCall,
    Operation,
    RetryOptions,
    Rpc,
    status_code,
    status_message,
)
from semia.core.access import ServerAccess, is_restricted
from semia.core.errors import ImageError, LabelMapColorError, LabelMapError, LabelMapSizeError, LabelMapTypeError
from semia.core.labels import Canvas, ClassIds, Target
from semia.core.labels import class_ids_from_target as read_target
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.core.palette import Palette

UNREGISTER_TIMEOUT_S = 2.0
UNREGISTER_POLL_S = 0.02
"""For unregistering shared memory at a server that is busy with cancelled calls or not done with answered ones."""

IN_USE = "currently in use"  # Triton's reason not to forget a region yet

UNKNOWN_REGION = "shared memory region"
"""What a server says of a region that it does not know, as one that was started anew does not."""

_MAY_BE_OUTDATED = (TargetSizeError, TargetTypeError, UnknownColorError, UnknownModelError, ServerRefusedError)
"""Errors that a description from before the model was published anew can cause."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelDescription:
    """Everything needed to draw a label map for a model."""

    name: str
    versions: tuple[str, ...]  # ready to serve, oldest first
    canvas: Canvas  # the size of label maps and pictures
    palette: Palette  # the classes' colors and names
    model_card_sha256: str  # which export this is

    @property
    def latest_version(self) -> str:
        """The version that serves when none is asked for."""
        return self.versions[-1]

    @classmethod
    def from_parameters(cls, name: str, versions: tuple[str, ...], parameters: Mapping[str, str]) -> "ModelDescription":
        """Read the parameters that `semia publish` writes, or raise a NotASemiaModelError."""
        try:
            canvas = Canvas(int(parameters["canvas_height"]), int(parameters["canvas_width"]))
            if min(canvas) < 1:
                raise ValueError(f"canvas {canvas}")
            palette = Palette.from_hex(json.loads(parameters["palette"]), json.loads(parameters["class_names"]))
            return cls(name, versions, canvas, palette, parameters["model_card_sha256"])
        except KeyError as error:
            problem = f"has no parameter {error}"
        except (ValueError, TypeError, AttributeError, LabelMapError) as error:
            problem = f"has parameters that make no sense ({error})"
        raise NotASemiaModelError(
            f"model {name!r} {problem}, so it is not one of semia's: publish it with `semia publish`"
        )


def class_ids_from_target(target: Target, model: ModelDescription) -> ClassIds:
    """A target as class ids ``uint8[H, W]`` on the model's canvas, as `semia.core.labels` reads it.

    Raises:
        TargetTypeError, UnreadableTargetError, TargetSizeError, UnknownColorError: as `semia.client.SynthesisClient`.
    """
    try:
        return read_target(target, model.palette, model.canvas, f"model {model.name!r}")
    except LabelMapTypeError as error:
        raise TargetTypeError(str(error)) from error
    except LabelMapSizeError as error:
        raise TargetSizeError(str(error)) from error
    except LabelMapColorError as error:
        raise UnknownColorError(str(error)) from error
    except ImageError as error:
        raise UnreadableTargetError(str(error)) from error


class Inference:
    """Label maps in, pictures out, by whichever way the server takes part in. Threads may share it."""

    def __init__(self, caller: Caller, regions: RegionPool) -> None:
        self._caller = caller
        self._headers = caller.access.headers
        self._regions = regions

    async def infer(self, call: ClientCall, model: str, version: str, ids: ClassIds) -> tuple[NDArray[np.uint8], str]:
        """The picture ``uint8[H, W, 3]`` of class ids ``uint8[H, W]``, and the version that made it."""
        canvas = Canvas(*ids.shape)
        if self._regions.covers(canvas) and (region := await self._region(call, canvas)) is not None:
            try:
                return await self._infer_through(call, region, model, version, ids)
            except InferenceServerException as error:
                if UNKNOWN_REGION not in status_message(error):
                    raise await self._caller.client_error(call, error) from error
        batch = ids[np.newaxis]
        target = InferInput(INPUT_NAME, batch.shape, "UINT8")
        target.set_data_from_numpy(batch)
        image = InferRequestedOutput(OUTPUT_NAME)
        result = await self._caller.request(call, _infer(model, version, target, image))
        response = result.get_response()
        pictures = result.as_numpy(OUTPUT_NAME)
        _check_answer(model, ids, None if pictures is None else (pictures.dtype.name.upper(), pictures.shape))
        return pictures[0], response.model_version

    async def close(self, call: ClientCall) -> None:
        """Have the server give shared memory back; it does so once it has finished what was asked of it."""
        regions, until = self._regions.drain(), time.monotonic() + UNREGISTER_TIMEOUT_S
        while regions:
            in_use = []
            for region in regions:
                if time.monotonic() < until and not await self._unregister(call, region):
                    in_use.append(region)
            regions = in_use
            if regions:
                await call.sleep(UNREGISTER_POLL_S)

    async def _infer_through(
        self, call: ClientCall, region: Region, model: str, version: str, ids: ClassIds
    ) -> tuple[NDArray[np.uint8], str]:
        with self._regions.in_use(region):
            region.write(ids)
            result = await self._caller.attempt(call, _infer(model, version, *region.tensors()))
            output = result.get_output(OUTPUT_NAME)
            _check_answer(model, ids, None if output is None else (output.datatype, tuple(output.shape)))
            return region.picture(), result.get_response().model_version

    async def _region(self, call: ClientCall, canvas: Canvas) -> Region | None:
        """A registered region; None where there is none to be had, and the call goes without."""
        region = self._regions.acquire(canvas)
        if region is not None:
            return region
        if (abandoned := self._regions.pop_abandoned()) and not await self._unregister(call, abandoned):
            self._regions.abandon(abandoned)
        try:
            region = Region(canvas)
        except OSError:
            self._regions.disable()
            return None
        try:
            await call.ask(
                lambda triton, left_s: triton.register_system_shared_memory(
                    region.name, f"/{region.name}", region.size, headers=self._headers, client_timeout=left_s
                )
            )
        except InferenceServerException as error:
            self._regions.abandon(region)  # a server that was late may have it
            # Another machine behind a tunnel, a container, another user, a server that restricts it. One that
            # is not there, or late, will be met again by the call itself.
            if status_code(error) not in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or is_restricted(status_message(error)):
                self._regions.disable()
            return None
        except BaseException:
            self._regions.abandon(region)
            raise
        finally:
            region.remove_name()
        return region

    async def _unregister(self, call: ClientCall, region: Region) -> bool:
        """Have the server forget a region; False if it still uses it."""
        try:
            await call.ask(
                lambda triton, left_s: triton.unregister_system_shared_memory(
                    region.name, headers=self._headers, client_timeout=min(left_s, UNREGISTER_TIMEOUT_S)
                )
            )
        except InferenceServerException as error:
            if IN_USE in status_message(error):
                return False  # of a server that is gone, or was started anew, nothing is left to be forgotten
        region.close()
        return True


def _infer(model: str, version: str, target: InferInput, image: InferRequestedOutput) -> Rpc:
    return lambda triton, left_s: triton.infer(
        model, [target], model_version=version, outputs=[image], client_timeout=left_s
    )


def _check_answer(model: str, ids: ClassIds, received: tuple[str, tuple[int, ...]] | None) -> None:
    """Refuse an output whose type and shape, None where there was none, are not those of one picture."""
    expected = (1, *ids.shape, 3)
    if received != ("UINT8", expected):
        described = "nothing" if received is None else f"{received[0].lower()}{list(received[1])}"
        raise NotASemiaModelError(
            f"model {model!r} answered {described} where uint8{list(expected)} was expected: "
            "publish it anew with `semia publish`"
        )


@dataclass(frozen=True)
class Answer:
    """What a model made of a label map."""

    picture: NDArray[np.uint8]  # [H, W, 3]
    ids: ClassIds  # what it was made of, as it was sent
    version: str  # of the model that made it
    model: ModelDescription  # by which the target was read


class ServerOperations:
    """The operations on one server, and the descriptions remembered between them. Threads may share it."""

    def __init__(self, url: str, access: ServerAccess, retries: RetryOptions, regions: RegionPool) -> None:
        self._caller = Caller(url, access, retries)
        self._inference = Inference(self._caller, regions)
        self._descriptions: dict[str, ModelDescription] = {}

    async def models(self, call: ClientCall) -> list[str]:
        """The names of the models that are ready, sorted."""
        headers = self._caller.access.headers
        index = await self._caller.request(
            call, lambda triton, left_s: triton.get_model_repository_index(headers=headers, client_timeout=left_s)
        )
        return sorted({entry.name for entry in index.models if entry.state == "READY"})

    async def describe(self, call: ClientCall, model: str) -> ModelDescription:
        """What the server says about a model, now."""
        # Versions first: were the model published anew between the two requests, its answers would then
        # show a version that this description does not know, and it would be asked for again.
        self._descriptions.pop(model, None)
        try:
            metadata = await self._caller.attempt(
                call, lambda triton, left_s: triton.get_model_metadata(model, client_timeout=left_s)
            )
        except InferenceServerException as error:
            if status_code(error) == "NOT_FOUND":
                raise await self._unknown_model(call, model) from error
            raise await self._caller.client_error(call, error) from error
        response = await self._caller.request(
            call, lambda triton, left_s: triton.get_model_config(model, client_timeout=left_s)
        )
        parameters = {key: parameter.string_value for key, parameter in response.config.parameters.items()}
        versions = tuple(sorted(metadata.versions, key=int))
        if not versions:
            raise await self._unknown_model(call, model)
        description = ModelDescription.from_parameters(model, versions, parameters)
        self._descriptions[model] = description
        return description

    async def class_ids(self, call: ClientCall, model: str, target: Target) -> ClassIds:
        """How a target is understood."""
        return await self._with_description(
            call, model, lambda described: call.work(lambda: class_ids_from_target(target, described))
        )

    async def synthesize(self, call: ClientCall, model: str, target: Target, version: str) -> Answer:
        """The model's picture of a target; an empty ``version`` means the latest."""

        async def synthesize_as_described(description: ModelDescription) -> Answer:
            if version and version not in description.versions:
                raise UnknownModelError(
                    f"model {model!r} has no version {version!r}; ready: {', '.join(description.versions)}"
                )
            ids = await call.work(lambda: class_ids_from_target(target, description))
            picture, answered_by = await self._inference.infer(call, model, version, ids)
            if answered_by != (version or description.latest_version):
                raise ServerRefusedError(f"model {model!r} was published anew during the call: call again")
            return Answer(picture, ids, answered_by, description)

        return await self._with_description(call, model, synthesize_as_described)

    async def close(self, call: ClientCall) -> None:
        """Unregister shared memory."""
        await self._inference.close(call)

    async def _with_description(
        self, call: ClientCall, model: str, use: Callable[[ModelDescription], Operation[Result]]
    ) -> Result:
        """Use the remembered description; if that fails and the server's has changed, use the new one."""
        remembered = self._descriptions.get(model)
        if remembered is None:
            return await use(await self.describe(call, model))
        try:
            return await use(remembered)
        except _MAY_BE_OUTDATED:
            current = await self.describe(call, model)
            if current == remembered:
                raise
        return await use(current)

    async def _unknown_model(self, call: ClientCall, model: str) -> UnknownModelError:
        try:
            # One that became ready between the two questions must not be called missing.
            others = ", ".join(name for name in await self.models(call) if name != model) or "none"
        except AccessRefusedError:
            others = "known to the server's operators"
        return UnknownModelError(f"the server has no model {model!r} ready; models: {others}")

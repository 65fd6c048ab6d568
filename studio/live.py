"""Live pictures: class ids come through a WebSocket, pictures go back; the newest label map wins, none is queued."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from aiohttp import WSMsgType, web

from semia.client import AsyncSynthesisClient, DeadlineExceededError, ModelDescription, ServerUnavailableError
from semia.client.errors import NotASemiaModelError, TargetSizeError, TargetTypeError, UnknownModelError
from semia.core.errors import SemiaError
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.studio.comparing import Others
from semia.studio.errors import ChangedError, FrameError, StudioError, TritonMissingError
from semia.studio.frames import MAX_HEAD_BYTES, Frame, pack, unpack
from semia.studio.triton import Triton
from semia.training.scene import MAX_SIDE

MAX_FRAME_BYTES = MAX_HEAD_BYTES + MAX_SIDE * MAX_SIDE

HEARTBEAT_S = 20.0

KINDS: tuple[tuple[type[Exception], str], ...] = (
    (TritonMissingError, "unavailable"),
    (ServerUnavailableError, "unavailable"),
    (DeadlineExceededError, "late"),
    (UnknownModelError, "no-model"),
    (NotASemiaModelError, "no-model"),
    (TargetSizeError, "changed"),
    (TargetTypeError, "changed"),
    (ChangedError, "changed"),
    (FrameError, "frame"),
)
"""What the page can do something about, by the error that it comes from."""


_logger = logging.getLogger("semia.studio")


class _Newest:
    """Holds the last frame that came; earlier ones that were not taken yet are dropped."""

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._arrived = asyncio.Event()

    def put(self, data: bytes) -> None:
        self._data = data
        self._arrived.set()

    async def take(self) -> bytes:
        await self._arrived.wait()
        self._arrived.clear()
        assert self._data is not None, "something arrived"
        data, self._data = self._data, None
        return data


@dataclass(frozen=True)
class Painted:
    """A picture, and what made it."""

    picture: RGB
    version: str


class Painter(Protocol):
    """What makes a session's pictures."""

    async def paint(self, ids: ClassIds) -> Painted:
        """The picture of class ids ``uint8[H, W]``.

        Raises:
            ChangedError: if they are of a model that is served no more.
            SemiaError: if there is none for another reason.
        """
        ...


class ServedPainter:
    """The model as the server has it."""

    def __init__(self, model: str, card: str, client: AsyncSynthesisClient, triton: Triton) -> None:
        """Make a painter.

        Args:
            model: the model's name.
            card: hash of the model card that the page knows; pictures of another one are not sent.
            client: of the server.
            triton: the server.
        """
        self._model = model
        self._card = card
        self._client = client
        self._triton = triton

    async def paint(self, ids: ClassIds) -> Painted:
        """As `Painter.paint`."""
        self._triton.check_running()
        async with contextlib.aclosing(self._client.synthesize_many(self._model, [ids], concurrency=1)) as outcomes:
            outcome = await anext(outcomes)
        picture = outcome.unwrap()
        if outcome.model_card_sha256 != self._card:
            raise published_anew(self._model)
        return Painted(np.asarray(picture), str(outcome.version))


class OtherPainter:
    """A version that is in the repository and is not served, for class ids of the model that is."""

    def __init__(
        self, name: str, card: str, others: Others, describe: Callable[[], Awaitable[ModelDescription]]
    ) -> None:
        """Make a painter.

        Args:
            name: as `Other.name` has it.
            card: hash of the served model's card that the page knows.
            others: the repository's.
            describe: the served model as it is now.
        """
        self._name = name
        self._card = card
        self._others = others
        self._describe = describe
        self._model: ModelDescription | None = None

    async def paint(self, ids: ClassIds) -> Painted:
        """As `Painter.paint`."""
        if self._model is None:
            self._model = await self._describe()
        model = self._model
        if model.model_card_sha256 != self._card:
            raise published_anew(model.name)
        if ids.shape != model.canvas or ids.max() >= len(model.palette):
            raise FrameError(f"these class ids are not for {model.name!r}")

        def draw() -> RGB:
            return self._others.open(model, self._name)(ids)

        return Painted(await asyncio.to_thread(draw), self._name)


def published_anew(model: str) -> ChangedError:
    """What to say of class ids of a model that is served no more."""
    return ChangedError(f"model {model!r} was published anew: its classes may be others")


class LiveSession:
    """One page that paints for one model."""

    def __init__(self, painter: Painter) -> None:
        self._painter = painter

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Answer a WebSocket until it is closed."""
        newest = _Newest()
        painter = asyncio.create_task(self._paint(newest, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    newest.put(message.data)
                elif message.type is WSMsgType.TEXT:
                    await self._tell(socket, FrameError("frames are binary"), None)
        finally:
            painter.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await painter

    async def _paint(self, newest: _Newest, socket: web.WebSocketResponse) -> None:
        while True:
            data = await newest.take()
            sequence: Any = None
            try:
                frame = unpack(data)
                sequence = frame.integer("sequence")
                answer = await self._answer(frame, sequence)
            except SemiaError as error:
                await self._tell(socket, error, sequence)
            except Exception as error:
                _logger.exception("a live picture")
                unexpected = StudioError(f"unexpected {type(error).__name__}: {error}")
                await self._tell(socket, unexpected, sequence)
            else:
                await socket.send_bytes(answer)

    async def _answer(self, frame: Frame, sequence: int) -> bytes:
        ids = frame.label_map(MAX_SIDE)
        began = time.monotonic()
        painted = await self._painter.paint(ids)
        height, width = painted.picture.shape[:2]
        head = {
            "sequence": sequence,
            "version": painted.version,
            "ms": round(1000 * (time.monotonic() - began), 1),
            "width": width,
            "height": height,
        }
        return pack(head, painted.picture.tobytes())

    async def _tell(self, socket: web.WebSocketResponse, error: SemiaError, sequence: int | None) -> None:
        kind = next((kind for kinds, kind in KINDS if isinstance(error, kinds)), "failed")
        await socket.send_str(json.dumps({"error": str(error), "kind": kind, "sequence": sequence}))

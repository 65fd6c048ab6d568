"""Live pictures: class ids come through a WebSocket, pictures go back; the newest label map wins, none is queued."""

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

from aiohttp import WSMsgType, web

from semia.client import AsyncSynthesisClient, DeadlineExceededError, ServerUnavailableError
from semia.client.errors import NotASemiaModelError, TargetSizeError, TargetTypeError, UnknownModelError
from semia.core.errors import SemiaError
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


class LiveSession:
    """One page that paints for one model."""

    def __init__(self, model: str, card: str, client: AsyncSynthesisClient, triton: Triton) -> None:
        """Make a session.

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
                _logger.exception("a live picture of %s", self._model)
                unexpected = StudioError(f"unexpected {type(error).__name__}: {error}")
                await self._tell(socket, unexpected, sequence)
            else:
                await socket.send_bytes(answer)

    async def _answer(self, frame: Frame, sequence: int) -> bytes:
        ids = frame.label_map(MAX_SIDE)
        self._triton.check_running()
        began = time.monotonic()
        async with contextlib.aclosing(self._client.synthesize_many(self._model, [ids], concurrency=1)) as outcomes:
            outcome = await anext(outcomes)
        picture = outcome.unwrap()
        if outcome.model_card_sha256 != self._card:
            raise ChangedError(f"model {self._model!r} was published anew: its classes may be others")
        head = {
            "sequence": sequence,
            "version": outcome.version,
            "ms": round(1000 * (time.monotonic() - began), 1),
            "width": picture.width,
            "height": picture.height,
        }
        return pack(head, picture.tobytes())

    async def _tell(self, socket: web.WebSocketResponse, error: SemiaError, sequence: int | None) -> None:
        kind = next((kind for kinds, kind in KINDS if isinstance(error, kinds)), "failed")
        await socket.send_str(json.dumps({"error": str(error), "kind": kind, "sequence": sequence}))

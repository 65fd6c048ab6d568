"""What the studio is made of, and what its handlers ask of it."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from aiohttp import WSCloseCode, web

from semia.client import AsyncSynthesisClient, ModelDescription, RetryOptions
from semia.core import LOOPBACK
from semia.core.access import ServerAccess
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.studio.access import PageTls
from semia.studio.comparing import Others
from semia.studio.frames import Frame
from semia.studio.jobs import Workshop
from semia.studio.scenes import SceneFolder, Scenes, tag_of
from semia.studio.segmenter import Segmenter
from semia.studio.triton import Triton

if TYPE_CHECKING:
    from semia.studio.assist import PhotographAssistant
    from semia.studio.judging import SceneJudge

Result = TypeVar("Result")

CALL_TIMEOUT_S = 20.0
"""Of one call of the server."""


@dataclass(frozen=True)
class StudioSettings:
    """How the studio is started."""

    scenes: Sequence[Path]  # scene folders to show
    uploads: Path  # folder in which photographs become scenes
    repository: Path  # model repository that is published to
    runs: Path  # folder of run folders
    bundles: Path  # folder of bundles
    port: int = 8765  # 0: any that is free
    host: str = LOOPBACK  # name or address that the page is served and opened at; beyond loopback with TLS alone
    tls: PageTls | None = None  # of the page
    segmenter: tuple[Path, Path] | None = None  # encoder and decoder, ONNX files; None: no clicks
    url: str | None = None  # gRPC address of a Triton to join; None: one of its own
    access: ServerAccess = field(default_factory=ServerAccess)  # what that server asks for


class Studio:
    """What the handlers share."""

    def __init__(self, settings: StudioSettings) -> None:
        self.scenes = Scenes(settings.scenes, settings.uploads)
        self.triton = Triton(settings.repository, settings.url, settings.access)
        self.workshop = Workshop(settings.runs, settings.bundles, self.triton)
        self.client = self._make_client(RetryOptions())
        self.live_client = self._make_client(RetryOptions(attempts=1))  # the page tries again, and shows that it does
        self.segmenter = None if settings.segmenter is None else Segmenter.load(*settings.segmenter)
        self.sockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()
        self.others = Others(settings.repository)
        self._assistant: tuple[str, PhotographAssistant] | None = None
        self._judge: SceneJudge | None = None
        self._assisting, self._judging = asyncio.Lock(), asyncio.Lock()

    def _make_client(self, retries: RetryOptions) -> AsyncSynthesisClient:
        return AsyncSynthesisClient(
            self.triton.url,
            timeout_s=CALL_TIMEOUT_S,
            tls=self.triton.access.tls,
            admin_key=self.triton.access.admin_key,
            retries=retries,
        )

    async def model(self, scene: SceneFolder) -> ModelDescription:
        """The model of a scene, as the server has it now."""
        self.triton.check_running()
        return await self.client.describe(scene.name)

    async def assist(self, scene: SceneFolder, work: "Callable[[PhotographAssistant], Any]") -> Any:
        """Have a scene's assistant do something, one thing at a time."""
        async with self._assisting:
            return await in_background(lambda: work(self._assistant_of(scene)))

    async def figures(self, scene: SceneFolder, frame: Frame) -> dict[str, float | None]:
        """The six figures of a layout and the picture that the model makes of it now."""
        model = await self.model(scene)
        ids = frame.class_ids(model.canvas, len(model.palette))
        picture = np.asarray(await self.client.synthesize(scene.name, ids))
        async with self._judging:
            return await in_background(lambda: self._judged(scene, model, ids, picture))

    def _judged(
        self, scene: SceneFolder, model: ModelDescription, ids: ClassIds, picture: RGB
    ) -> dict[str, float | None]:
        from semia.studio.judging import SceneJudge  # takes seconds

        if self._judge is None:
            self._judge = SceneJudge()
        return self._judge.figures(scene, model, ids, picture)

    def _assistant_of(self, scene: SceneFolder) -> "PhotographAssistant":
        from semia.studio.assist import PhotographAssistant  # takes a second

        key = f"{scene.photograph_path} {tag_of(scene.photograph_path)}"
        if self._assistant is None or self._assistant[0] != key:
            self._assistant = key, PhotographAssistant(scene.photograph())
        return self._assistant[1]

    async def close(self) -> None:
        """Stop all that was started."""
        for socket_ in set(self.sockets):
            await socket_.close(code=WSCloseCode.GOING_AWAY)
        await self.workshop.cancel()
        await self.client.close()
        await self.live_client.close()
        await self.triton.stop()


async def in_background(work: Callable[[], Result]) -> Result:
    """Do something that may take long in a thread that nobody waits for when the studio stops."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("Result", result))

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the studio has stopped meanwhile
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="semia-studio-background", daemon=True).start()
    return await done

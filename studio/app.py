"""The studio's server: an aiohttp application on loopback that hands the page its files, its data and its pictures."""

import asyncio
import errno
import io
import logging
import signal
import socket
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Handler
from PIL import Image

from semia.client import AsyncSynthesisClient, ModelDescription, RetryOptions, ServerUnavailableError, UnknownModelError
from semia.core.access import ServerAccess
from semia.core.errors import InputError, SemiaError
from semia.core.images import RGB
from semia.core.labels import Canvas, ClassIds
from semia.serving import ServerUnreachableError
from semia.studio.access import LOOPBACK, MAX_BODY_BYTES, Gate, add_headers
from semia.studio.errors import BusyError, ChangedError, NotFoundError, TritonMissingError
from semia.studio.frames import Frame, pack, unpack
from semia.studio.jobs import MakeRequest, Workshop
from semia.studio.live import HEARTBEAT_S, MAX_FRAME_BYTES, LiveSession
from semia.studio.scenes import SceneFolder, Scenes, classes_from_json, tag_of
from semia.studio.segmenter import Segmenter, clicks_from_json
from semia.studio.triton import Triton, description_as_json
from semia.training.scene import MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from semia.studio.assist import PhotographAssistant
    from semia.studio.judging import SceneJudge

PAGE = Path(__file__).with_name("page")

CALL_TIMEOUT_S = 20.0
"""Of one call of the server."""

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)

STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, 404),
    (UnknownModelError, 404),
    (ChangedError, 412),
    (BusyError, 409),
    (TritonMissingError, 503),
    (ServerUnavailableError, 503),
    (ServerUnreachableError, 503),
    (InputError, 400),
)
"""HTTP's word for an error; the first that fits."""

_logger = logging.getLogger("semia.studio")


@dataclass(frozen=True)
class StudioSettings:
    """How the studio is started."""

    scenes: Sequence[Path]  # scene folders to show
    uploads: Path  # folder in which photographs become scenes
    repository: Path  # model repository that is published to
    runs: Path  # folder of run folders
    bundles: Path  # folder of bundles
    port: int = 8765  # 0: any that is free
    segmenter: tuple[Path, Path] | None = None  # encoder and decoder, ONNX files; None: no clicks
    url: str | None = None  # gRPC address of a Triton to join; None: one of its own
    access: ServerAccess = field(default_factory=ServerAccess)  # what that server asks for


class Studio:
    """What the handlers share."""

    def __init__(self, settings: StudioSettings) -> None:
        self.scenes = Scenes(settings.scenes, settings.uploads)
        self.triton = Triton(settings.repository, settings.url, settings.access)
        self.workshop = Workshop(settings.runs, settings.bundles, self.triton)
        self.client = AsyncSynthesisClient(
            self.triton.url,
            timeout_s=CALL_TIMEOUT_S,
            tls=settings.access.tls,
            admin_key=settings.access.admin_key,
            retries=RetryOptions(attempts=1),  # the page tries again, and shows that it does
        )
        self.segmenter = None if settings.segmenter is None else Segmenter.load(*settings.segmenter)
        self.sockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()
        self._assistant: tuple[str, PhotographAssistant] | None = None
        self._judge: SceneJudge | None = None
        self._assisting = asyncio.Lock()

    async def model(self, scene: SceneFolder) -> ModelDescription:
        """The model of a scene, as the server has it now."""
        self.triton.check_running()
        return await self.client.describe(scene.name)

    async def assist(self, scene: SceneFolder, work: "Callable[[PhotographAssistant], Any]") -> Any:
        """Have a scene's assistant do something, one thing at a time."""
        async with self._assisting:
            return await asyncio.to_thread(lambda: work(self._assistant_of(scene)))

    async def figures(self, scene: SceneFolder, frame: Frame) -> dict[str, float | None]:
        """The six figures of a layout and the picture that the model makes of it now."""
        model = await self.model(scene)
        ids = frame.class_ids(model.canvas, len(model.palette))
        picture = np.asarray(await self.client.synthesize(scene.name, ids))
        async with self._assisting:
            return await asyncio.to_thread(self._judged, scene, model, ids, picture)

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
        await self.triton.stop()


@asynccontextmanager
async def running_studio(settings: StudioSettings) -> "AsyncIterator[tuple[Studio, str]]":
    """Run the studio while the block runs; yields it and the address to open.

    Raises:
        InputError: if the port is taken or a scene folder is missing.
    """
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings.port))
        gate = Gate(listener.getsockname()[1])
        studio = Studio(settings)
        stack.push_async_callback(studio.close)
        runner = web.AppRunner(_application(studio, gate), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener).start()
        yield studio, gate.address


async def run(settings: StudioSettings, on_ready: Callable[[str, str], Awaitable[None]]) -> None:
    """Run the studio until Ctrl-C or SIGTERM.

    Args:
        settings: how.
        on_ready: told the page's address and the server's, once both answer or the latter has nothing to serve.

    Raises:
        InputError: as `running_studio`.
        ServingError: if Triton cannot be started.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running_studio(settings) as (studio, address):
        await studio.triton.start()
        await on_ready(address, studio.triton.url)
        await stop.wait()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise InputError(f"cannot listen on {LOOPBACK}:{port} ({error.strerror}): choose another --port") from error


def _application(studio: Studio, gate: Gate) -> web.Application:
    app = web.Application(middlewares=[_explain, gate.middleware()], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(add_headers)
    routes = _Routes(studio)
    app.add_routes(
        [
            web.get("/", routes.page),
            web.static("/page", PAGE),
            web.get("/api/state", routes.state),
            web.post("/api/triton", routes.start_triton),
            web.get("/api/scenes", routes.list_scenes),
            web.post("/api/scenes/{scene}", routes.add_scene),
            web.get("/api/scenes/{scene}/photograph", routes.photograph),
            web.get("/api/scenes/{scene}/label", routes.label),
            web.put("/api/scenes/{scene}/label", routes.save_label),
            web.get("/api/scenes/{scene}/model", routes.model),
            web.get("/api/scenes/{scene}/source", routes.source),
            web.get("/api/scenes/{scene}/layouts", routes.list_layouts),
            web.get("/api/scenes/{scene}/layouts/{layout}", routes.layout),
            web.put("/api/scenes/{scene}/layouts/{layout}", routes.save_layout),
            web.delete("/api/scenes/{scene}/layouts/{layout}", routes.delete_layout),
            web.post("/api/scenes/{scene}/layouts/{layout}/name", routes.rename_layout),
            web.post("/api/scenes/{scene}/fill", routes.fill),
            web.post("/api/scenes/{scene}/alike", routes.alike),
            web.get("/api/scenes/{scene}/regions", routes.regions),
            web.post("/api/scenes/{scene}/click", routes.click),
            web.post("/api/scenes/{scene}/figures", routes.figures),
            web.get("/api/job", routes.job),
            web.post("/api/scenes/{scene}/job", routes.start_job),
            web.delete("/api/job", routes.cancel_job),
            web.get("/live/{scene}", routes.live),
        ]
    )
    return app


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make errors answers that the page can show."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _problem(error.status, error.text or error.reason)
    except (SemiaError, OSError) as error:
        if _disk_is_full(error):
            return _problem(507, f"the disk is full: {error}")
        status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
        return _problem(status, str(error))
    except Exception as error:
        _logger.exception("%s %s", request.method, request.path)
        return _problem(500, f"unexpected {type(error).__name__}: {error}")


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            return True
        error = error.__cause__
    return False


class _Routes:
    """The handlers."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def _scene(self, request: web.Request) -> SceneFolder:
        return self._studio.scenes[request.match_info["scene"]]

    async def page(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "index.html")

    async def state(self, _: web.Request) -> web.Response:
        has_segmenter = self._studio.segmenter is not None
        return web.json_response({"triton": self._studio.triton.state(), "segmenter": has_segmenter})

    async def start_triton(self, _: web.Request) -> web.Response:
        await self._studio.triton.start()
        return web.json_response({"triton": self._studio.triton.state()})

    # Scenes.

    async def list_scenes(self, _: web.Request) -> web.Response:
        return web.json_response([_summary(scene) for scene in self._studio.scenes])

    async def add_scene(self, request: web.Request) -> web.Response:
        max_side = _integer(request.query.get("max_side", "4096"), "max_side")
        data = await request.read()
        scene = await asyncio.to_thread(self._studio.scenes.add, request.match_info["scene"], data, max_side)
        return web.json_response(_summary(scene))

    async def photograph(self, request: web.Request) -> web.Response:
        data = await asyncio.to_thread(lambda: _png(self._scene(request).photograph()))
        return _answer(data, "image/png")

    async def label(self, request: web.Request) -> web.Response:
        return _frame(await asyncio.to_thread(_label_frame, self._scene(request)))

    async def save_label(self, request: web.Request) -> web.Response:
        scene, frame = self._scene(request), unpack(await request.read())
        classes = classes_from_json(frame.head.get("classes"))

        def save() -> str:
            canvas = Canvas(*scene.photograph().shape[:2])
            return scene.save_label(frame.class_ids(canvas, len(classes)), classes, _tag(request))

        return web.json_response({"tag": await asyncio.to_thread(save)})

    # Layouts.

    async def model(self, request: web.Request) -> web.Response:
        return web.json_response(description_as_json(await self._studio.model(self._scene(request))))

    async def source(self, request: web.Request) -> web.Response:
        scene = self._scene(request)
        model = await self._studio.model(scene)
        ids = await asyncio.to_thread(scene.read_source, model.palette, model.canvas)
        return _frame(_ids_frame(ids, {"card": model.model_card_sha256}))

    async def list_layouts(self, request: web.Request) -> web.Response:
        layouts = await asyncio.to_thread(self._scene(request).layouts)
        return web.json_response([{"name": layout.name, "tag": layout.tag} for layout in layouts])

    async def layout(self, request: web.Request) -> web.Response:
        scene, name = self._scene(request), request.match_info["layout"]
        model = await self._studio.model(scene)
        ids, tag = await asyncio.to_thread(scene.read_layout, name, model.palette, model.canvas)
        return _frame(_ids_frame(ids, {"card": model.model_card_sha256, "tag": tag}))

    async def save_layout(self, request: web.Request) -> web.Response:
        scene, name, frame = self._scene(request), request.match_info["layout"], unpack(await request.read())
        model = await self._studio.model(scene)
        if frame.head.get("card") != model.model_card_sha256:
            raise ChangedError(f"model {scene.name!r} was published anew: its classes may be others")
        ids = frame.class_ids(model.canvas, len(model.palette))
        tag = await asyncio.to_thread(scene.save_layout, name, ids, model.palette, _tag(request))
        return web.json_response({"tag": tag})

    async def delete_layout(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self._scene(request).delete_layout, request.match_info["layout"])
        return web.json_response({})

    async def rename_layout(self, request: web.Request) -> web.Response:
        content = await _json(request)
        new_name = content.get("name") if isinstance(content, dict) else None
        if not isinstance(new_name, str):
            raise InputError("a layout is renamed with its new name")
        await asyncio.to_thread(self._scene(request).rename_layout, request.match_info["layout"], new_name)
        return web.json_response({"name": new_name})

    # Help with labelling.

    async def fill(self, request: web.Request) -> web.Response:
        strokes = await _strokes(request)
        ids = await self._studio.assist(self._scene(request), lambda assistant: assistant.fill(strokes))
        return _frame(_ids_frame(ids, {}))

    async def alike(self, request: web.Request) -> web.Response:
        strokes = await _strokes(request)
        ids = await self._studio.assist(self._scene(request), lambda assistant: assistant.find_alike(strokes))
        return _frame(_ids_frame(ids, {}))

    async def regions(self, request: web.Request) -> web.Response:
        count = _integer(request.query.get("count", "2000"), "count")
        regions = await self._studio.assist(self._scene(request), lambda assistant: assistant.regions(count))
        height, width = regions.shape
        return _frame(pack({"width": width, "height": height}, regions.astype("<u2").tobytes()))

    async def click(self, request: web.Request) -> web.Response:
        segmenter, scene, clicks = self._studio.segmenter, self._scene(request), clicks_from_json(await _json(request))
        if segmenter is None:
            raise NotFoundError("the studio was started without a --segmenter")
        mask = await self._studio.assist(scene, lambda assistant: segmenter.mask(assistant.photograph, clicks))
        return _frame(_ids_frame(mask, {}))

    async def figures(self, request: web.Request) -> web.Response:
        return web.json_response(await self._studio.figures(self._scene(request), unpack(await request.read())))

    # Making generators.

    async def job(self, request: web.Request) -> web.Response:
        job = self._studio.workshop.job
        since = _integer(request.query.get("since", "0"), "since")
        return web.json_response(None if job is None else job.as_json(since))

    async def start_job(self, request: web.Request) -> web.Response:
        scene, asked = self._scene(request), MakeRequest.from_json(await _json(request))
        return web.json_response(self._studio.workshop.start(scene, asked).as_json(0))

    async def cancel_job(self, _: web.Request) -> web.Response:
        await self._studio.workshop.cancel()
        return web.json_response({})

    # Pictures.

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        scene = self._scene(request)
        socket_ = web.WebSocketResponse(compress=False, max_msg_size=MAX_FRAME_BYTES, heartbeat=HEARTBEAT_S)
        await socket_.prepare(request)
        self._studio.sockets.add(socket_)
        card = request.query.get("card", "")
        await LiveSession(scene.name, card, self._studio.client, self._studio.triton).serve(socket_)
        return socket_


def _summary(scene: SceneFolder) -> dict[str, Any]:
    return {"name": scene.name, "folder": str(scene.path), "labelled": scene.label_path is not None}


def _label_frame(scene: SceneFolder) -> bytes:
    """The label map at the photograph's size, all of class 0 where there is none yet."""
    path = scene.label_path
    if path is None:
        height, width = scene.photograph().shape[:2]
        return _ids_frame(np.zeros((height, width), np.uint8), {"classes": [], "tag": "", "notes": []})
    labelled = scene.labelled()
    names = labelled.palette.names or tuple(f"class {number}" for number in range(1, len(labelled.palette) + 1))
    named = zip(names, labelled.palette.hex_codes, strict=True)
    classes = [{"name": name, "colour": code} for name, code in named]
    return _ids_frame(labelled.labels, {"classes": classes, "tag": tag_of(path), "notes": labelled.notes})


def _ids_frame(ids: ClassIds, head: dict[str, Any]) -> bytes:
    height, width = ids.shape
    return pack({"width": width, "height": height, **head}, ids.tobytes())


def _frame(data: bytes) -> web.Response:
    return _answer(data, "application/octet-stream")


def _answer(data: bytes, content_type: str) -> web.Response:
    # A file is sent piece by piece: large ones do not hold up the event loop.
    return web.Response(body=io.BytesIO(data), content_type=content_type)


def _png(picture: RGB) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


async def _strokes(request: web.Request) -> ClassIds:
    return unpack(await request.read()).label_map(MAX_SIDE)


async def _json(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise InputError(f"this is not JSON: {error}") from error


def _integer(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InputError(f"{what} must be a whole number, not {text!r}")
    return int(text)


def _tag(request: web.Request) -> str:
    return request.headers.get("If-Match", "")

"""What the page asks for, one handler a path; `semia.studio.app` says which."""

import asyncio
import dataclasses
import io
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image

from semia.core.errors import InputError
from semia.core.images import RGB
from semia.core.labels import Canvas, ClassIds
from semia.studio.errors import NotFoundError
from semia.studio.frames import pack, unpack
from semia.studio.jobs import MakeRequest
from semia.studio.live import (
    HEARTBEAT_S,
    MAX_FRAME_BYTES,
    LiveSession,
    OtherPainter,
    Painter,
    ServedPainter,
    published_anew,
)
from semia.studio.scenes import SceneFolder, classes_from_json, tag_of
from semia.studio.segmenter import clicks_from_json
from semia.studio.studio import Studio
from semia.studio.triton import description_as_json
from semia.training.scene import MAX_SIDE


class Routes:
    """The handlers."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def _scene(self, request: web.Request) -> SceneFolder:
        return self._studio.scenes[request.match_info["scene"]]

    async def state(self, _: web.Request) -> web.Response:
        """How the server is, and whether there is a segmenter."""
        has_segmenter = self._studio.segmenter is not None
        return web.json_response({"triton": self._studio.triton.state(), "segmenter": has_segmenter})

    async def start_triton(self, _: web.Request) -> web.Response:
        """Start the studio's own Triton again."""
        await self._studio.triton.start()
        return web.json_response({"triton": self._studio.triton.state()})

    # Scenes.

    async def list_scenes(self, _: web.Request) -> web.Response:
        """All scenes, by name."""
        return web.json_response([_summary(scene) for scene in self._studio.scenes])

    async def add_scene(self, request: web.Request) -> web.Response:
        """Make a scene of the photograph in the body."""
        max_side = _integer(request.query.get("max_side", "4096"), "max_side")
        data = await request.read()
        scene, notes = await asyncio.to_thread(self._studio.scenes.add, request.match_info["scene"], data, max_side)
        return web.json_response(_summary(scene) | {"notes": notes})

    async def photograph(self, request: web.Request) -> web.Response:
        """A scene's photograph as PNG."""
        data = await asyncio.to_thread(lambda: _png(self._scene(request).photograph()))
        return _answer(data, "image/png")

    async def label(self, request: web.Request) -> web.Response:
        """A frame: the label map at the photograph's size, its classes, its tag."""
        return _frame(await asyncio.to_thread(_label_frame, self._scene(request)))

    async def save_label(self, request: web.Request) -> web.Response:
        """Write a frame's label map and classes; If-Match has the tag of the file that the page last saw."""
        scene, frame = self._scene(request), unpack(await request.read())
        classes = classes_from_json(frame.head.get("classes"))

        def save() -> str:
            canvas = Canvas(*scene.photograph().shape[:2])
            return scene.save_label(frame.class_ids(canvas, len(classes)), classes, _tag(request))

        return web.json_response({"tag": await asyncio.to_thread(save)})

    # Layouts.

    async def model(self, request: web.Request) -> web.Response:
        """The description of a scene's model."""
        return web.json_response(description_as_json(await self._studio.model(self._scene(request))))

    async def source(self, request: web.Request) -> web.Response:
        """A frame: the photograph's own label map on the model's canvas."""
        scene = self._scene(request)
        model = await self._studio.model(scene)
        ids = await asyncio.to_thread(scene.read_source, model.palette, model.canvas)
        return _frame(_ids_frame(ids, {"card": model.model_card_sha256}))

    async def list_layouts(self, request: web.Request) -> web.Response:
        """The names and tags of a scene's layouts."""
        layouts = await asyncio.to_thread(self._scene(request).layouts)
        return web.json_response([{"name": layout.name, "tag": layout.tag} for layout in layouts])

    async def layout(self, request: web.Request) -> web.Response:
        """A frame: a layout on the model's canvas, and its tag."""
        scene, name = self._scene(request), request.match_info["layout"]
        model = await self._studio.model(scene)
        ids, tag = await asyncio.to_thread(scene.read_layout, name, model.palette, model.canvas)
        return _frame(_ids_frame(ids, {"card": model.model_card_sha256, "tag": tag}))

    async def save_layout(self, request: web.Request) -> web.Response:
        """Write a frame's layout; If-Match as for `save_label`."""
        scene, name, frame = self._scene(request), request.match_info["layout"], unpack(await request.read())
        model = await self._studio.model(scene)
        if frame.head.get("card") != model.model_card_sha256:
            raise published_anew(scene.name)
        ids = frame.class_ids(model.canvas, len(model.palette))
        tag = await asyncio.to_thread(scene.save_layout, name, ids, model.palette, _tag(request))
        return web.json_response({"tag": tag})

    async def delete_layout(self, request: web.Request) -> web.Response:
        """Delete a layout."""
        await asyncio.to_thread(self._scene(request).delete_layout, request.match_info["layout"])
        return web.json_response({})

    async def rename_layout(self, request: web.Request) -> web.Response:
        """Give a layout another name."""
        content = await _json(request)
        new_name = content.get("name") if isinstance(content, dict) else None
        if not isinstance(new_name, str):
            raise InputError("a layout is renamed with its new name")
        await asyncio.to_thread(self._scene(request).rename_layout, request.match_info["layout"], new_name)
        return web.json_response({"name": new_name})

    # Help with labelling.

    async def fill(self, request: web.Request) -> web.Response:
        """A frame: classes grown from a frame of strokes."""
        strokes = await _strokes(request)
        ids = await self._studio.assist(self._scene(request), lambda assistant: assistant.fill(strokes))
        return _frame(_ids_frame(ids, {}))

    async def alike(self, request: web.Request) -> web.Response:
        """A frame: the classes of what is like a frame of strokes."""
        strokes = await _strokes(request)
        ids = await self._studio.assist(self._scene(request), lambda assistant: assistant.find_alike(strokes))
        return _frame(_ids_frame(ids, {}))

    async def regions(self, request: web.Request) -> web.Response:
        """A frame: the number of each pixel's region, ``uint16`` in little-endian order."""
        count = _integer(request.query.get("count", "2000"), "count")
        regions = await self._studio.assist(self._scene(request), lambda assistant: assistant.regions(count))
        height, width = regions.shape
        return _frame(pack({"width": width, "height": height}, regions.astype("<u2").tobytes()))

    async def click(self, request: web.Request) -> web.Response:
        """A frame: the mask of the object that is clicked."""
        segmenter, scene, clicks = self._studio.segmenter, self._scene(request), clicks_from_json(await _json(request))
        if segmenter is None:
            raise NotFoundError("the studio was started without a --segmenter")
        mask = await self._studio.assist(scene, lambda assistant: segmenter.mask(assistant.photograph, clicks))
        return _frame(_ids_frame(mask, {}))

    async def figures(self, request: web.Request) -> web.Response:
        """The six figures of a frame's layout."""
        return web.json_response(await self._studio.figures(self._scene(request), unpack(await request.read())))

    # Making generators.

    async def job(self, request: web.Request) -> web.Response:
        """How the generator that is being made gets on, with what was printed since a line."""
        job = self._studio.workshop.job
        since = _integer(request.query.get("since", "0"), "since")
        return web.json_response(None if job is None else job.as_json(since))

    async def start_job(self, request: web.Request) -> web.Response:
        """Begin to make a scene's generator."""
        scene, asked = self._scene(request), MakeRequest.from_json(await _json(request))
        return web.json_response(self._studio.workshop.start(scene, asked).as_json(0))

    async def cancel_job(self, _: web.Request) -> web.Response:
        """Stop making it."""
        await self._studio.workshop.cancel()
        return web.json_response({})

    # Pictures.

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        """A WebSocket: frames of class ids in, frames of pictures out."""
        scene = self._scene(request)
        socket_ = web.WebSocketResponse(compress=False, max_msg_size=MAX_FRAME_BYTES, heartbeat=HEARTBEAT_S)
        await socket_.prepare(request)
        self._studio.sockets.add(socket_)
        await LiveSession(self._painter(scene, request)).serve(socket_)
        return socket_

    def _painter(self, scene: SceneFolder, request: web.Request) -> Painter:
        studio, card, other = self._studio, request.query.get("card", ""), request.query.get("other")
        if other is None:
            return ServedPainter(scene.name, card, studio.live_client, studio.triton)
        return OtherPainter(other, card, studio.others, lambda: studio.model(scene))

    async def others(self, request: web.Request) -> web.Response:
        """What the scene's model can be compared with: versions in the repository that draw its layouts."""
        model = await self._studio.model(self._scene(request))
        found = await asyncio.to_thread(self._studio.others.of, model)
        return web.json_response([dataclasses.asdict(other) for other in found])


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
    classes = [{"name": name, "color": code} for name, code in named]
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

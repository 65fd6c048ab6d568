"""The studio's server: an aiohttp application that hands the page its files, its data and its pictures."""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from semia.client import ServerUnavailableError, UnknownModelError
from semia.core import LOOPBACK
from semia.core.errors import InputError, SemiaError
from semia.serving import ServerUnreachableError
from semia.studio.access import MAX_BODY_BYTES, Gate, add_headers, check_host
from semia.studio.errors import BusyError, ChangedError, NotFoundError, TritonMissingError
from semia.studio.routes import Routes
from semia.studio.studio import Studio, StudioSettings

PAGE = Path(__file__).with_name("page")

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


@asynccontextmanager
async def running_studio(settings: StudioSettings) -> AsyncIterator[tuple[Studio, str]]:
    """Run the studio while the block runs; yields it and the address to open.

    Raises:
        InputError: if the port is taken, the host cannot be listened on or must not, or a scene folder is missing.
    """
    async with AsyncExitStack() as stack:
        check_host(settings.host, settings.tls)
        encryption = None if settings.tls is None else settings.tls.context()
        listener = stack.enter_context(_listen(settings.host, settings.port))
        gate = Gate(listener.getsockname()[1], settings.host, encrypted=encryption is not None)
        studio = Studio(settings)
        stack.push_async_callback(studio.close)
        runner = web.AppRunner(_application(studio, gate), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener, ssl_context=encryption).start()
        yield studio, gate.address


async def run(settings: StudioSettings, on_ready: Callable[[str, str, str], Awaitable[None]]) -> None:
    """Run the studio until Ctrl-C or SIGTERM.

    Args:
        settings: how.
        on_ready: told the page's address, the server's, and why that does not run although it should, or "".

    Raises:
        InputError: as `running_studio`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running_studio(settings) as (studio, address):
        problem = ""
        try:
            await studio.triton.start()
        except SemiaError as error:  # labelling needs no Triton, and the page can try again
            problem = str(error)
        await on_ready(address, studio.triton.url, problem)
        await stop.wait()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        choices = "another --port" if host == LOOPBACK else "another --host or --port"
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror  # the latter would repeat the address
        raise InputError(f"cannot listen on {host}:{port} ({reason}): choose {choices}") from error


def _application(studio: Studio, gate: Gate) -> web.Application:
    app = web.Application(middlewares=[_explain, gate.middleware()], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(add_headers)
    routes = Routes(studio)
    app.add_routes(
        [
            web.get("/", _page),
            web.static("/page", PAGE),
            web.get("/api/state", routes.state),
            web.post("/api/triton", routes.start_triton),
            web.get("/api/scenes", routes.list_scenes),
            web.post("/api/scenes/{scene}", routes.add_scene),
            web.get("/api/scenes/{scene}/photograph", routes.photograph),
            web.get("/api/scenes/{scene}/label", routes.label),
            web.put("/api/scenes/{scene}/label", routes.save_label),
            web.get("/api/scenes/{scene}/model", routes.model),
            web.get("/api/scenes/{scene}/others", routes.others),
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


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make errors answers that the page can show."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        if request.path == "/":  # for a person, not for the page
            return web.Response(status=error.status, text=error.text)
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

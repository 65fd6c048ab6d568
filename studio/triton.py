"""The Triton that answers the page: a running one that is joined, or one of the studio's own."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from semia.client import ModelDescription
from semia.core.access import ServerAccess
from semia.core.errors import SemiaError
from semia.serving import ServerOptions, TritonServer, Update, list_models, publish, publish_and_load
from semia.serving.repository.layout import PublishedModel
from semia.studio.errors import TritonMissingError


class Triton:
    """One server. Of the studio's own, the address is known before it runs: it is started with the first model."""

    def __init__(self, repository: Path, url: str | None, access: ServerAccess) -> None:
        self._repository = repository
        self._options = ServerOptions.on_free_ports() if url is None else None
        self.url = url or f"{self._require_options().host}:{self._require_options().grpc_port}"
        self.access = access
        self._server: TritonServer | None = None
        self._problem = ""
        # Triton ends with the thread that started it: this one lives as long as the studio.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="semia-studio-triton")
        self._watch: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def own(self) -> bool:
        """Whether the studio started it, or will."""
        return self._options is not None

    def state(self) -> dict[str, Any]:
        """What the page is told."""
        if not self.own:
            return {"state": "joined", "url": self.url, "problem": ""}
        state = "running" if self._server is not None else "ended" if self._problem else "none"
        return {"state": state, "url": self.url, "problem": self._problem}

    async def start(self) -> None:
        """Start it if it is the studio's own, is not running, and there is something to serve.

        Raises:
            ServingError: if it cannot be started.
        """
        async with self._starting:
            if not self.own or self._server is not None:
                return
            if not self._repository.is_dir() or not list_models(self._repository):
                return
            server = TritonServer(self._repository, self._require_options())
            try:
                await self._in_thread(server.start)
            except SemiaError as error:
                self._problem = str(error)
                raise
            self._server, self._problem = server, ""
            self._watch = asyncio.create_task(self._watch_over(server))

    async def stop(self) -> None:
        """Stop what was started."""
        server, self._server = self._server, None
        if server is not None:
            await self._in_thread(server.stop)
        if self._watch is not None:
            await self._watch
        self._thread.shutdown()

    async def publish(self, bundle: Path, *, change_classes: bool) -> PublishedModel:
        """Publish a bundle and put it into service.

        Args:
            bundle: the folder.
            change_classes: publish also if class ids mean other classes than in the version before.

        Raises:
            ServingError: if that fails; the version that served goes on serving.
        """
        if self.own and self._server is None:
            published = await asyncio.to_thread(publish, bundle, self._repository, change_classes=change_classes)
            await self.start()
            return published
        update: Update = await asyncio.to_thread(
            publish_and_load,
            bundle,
            self._repository,
            self.url,
            change_classes=change_classes,
            access=self.access,
        )
        return update.published

    def check_running(self) -> None:
        """Make sure that there is a server to ask.

        Raises:
            TritonMissingError: if not; it says why.
        """
        if self.own and self._server is None:
            raise TritonMissingError(
                f"Triton has ended: {self._problem}" if self._problem else "no generator has been made yet"
            )

    async def _watch_over(self, server: TritonServer) -> None:
        code = await asyncio.to_thread(server.wait)
        if self._server is server:
            self._server = None
            self._problem = f"it stopped by itself with exit code {code}"
            with contextlib.suppress(SemiaError):
                await self._in_thread(server.stop)

    async def _in_thread(self, work: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _require_options(self) -> ServerOptions:
        assert self._options is not None, "of a server of the studio's own"
        return self._options


def description_as_json(model: ModelDescription) -> dict[str, Any]:
    """A model's description as the page has it."""
    names = model.palette.names or tuple(f"class {number}" for number in range(1, len(model.palette) + 1))
    return {
        "name": model.name,
        "version": model.latest_version,
        "width": model.canvas.width,
        "height": model.canvas.height,
        "classes": [{"name": name, "color": code} for name, code in zip(names, model.palette.hex_codes, strict=True)],
        "card": model.model_card_sha256,
    }

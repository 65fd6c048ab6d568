"""A studio on a free port for the length of a block, and a browser's way of talking to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
from yarl import URL

from semia.studio.app import running_studio
from semia.studio.studio import Studio, StudioSettings

Result = TypeVar("Result")


class Visitor:
    """A browser that has opened the studio's address."""

    def __init__(self, studio: Studio, address: str, session: aiohttp.ClientSession) -> None:
        self.studio = studio
        self.address = URL(address)
        self.origin = str(self.address.origin())
        self._session = session

    def ask(self, method: str, path: str, **options: object) -> "aiohttp.client._RequestContextManager":
        """A request as the page sends it."""
        headers = {"Origin": self.origin, **options.pop("headers", {})}  # type: ignore[dict-item]
        return self._session.request(method, self.origin + path, headers=headers, **options)  # type: ignore[arg-type]

    def live(self, scene: str, card: str, other: str | None = None) -> "aiohttp.client._WSRequestContextManager":
        """The socket for live pictures; ``other``: of that version in the repository."""
        address = f"{self.origin}/live/{scene}?card={card}" + (f"&other={other}" if other else "")
        return self._session.ws_connect(address, origin=self.origin, max_msg_size=1 << 26)


@asynccontextmanager
async def visiting(
    settings: StudioSettings, *, admitted: bool = True, trusted: Path | None = None
) -> AsyncIterator[Visitor]:
    encryption = None if trusted is None else ssl.create_default_context(cafile=trusted)
    connector = aiohttp.TCPConnector(ssl=True if encryption is None else encryption)
    async with (
        running_studio(settings) as (studio, address),
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), connector=connector) as session,
    ):
        if admitted:
            async with session.get(address) as page:
                assert page.status == 200, await page.text()
        yield Visitor(studio, address, session)


def visit(
    settings: StudioSettings,
    errand: Callable[[Visitor], Awaitable[Result]],
    *,
    admitted: bool = True,
    trusted: Path | None = None,
) -> Result:
    """Run a studio while an errand is done; ``trusted``: who signed its certificate."""

    async def run() -> Result:
        async with visiting(settings, admitted=admitted, trusted=trusted) as visitor:
            return await errand(visitor)

    return asyncio.run(run())


def settings_in(folder: Path, *scenes: Path, url: str | None = None) -> StudioSettings:
    """Settings of a studio that writes nothing outside a folder, on a port that is free."""
    return StudioSettings(
        scenes=scenes,
        uploads=folder / "uploads",
        repository=folder / "model_repository",
        runs=folder / "runs",
        bundles=folder / "bundles",
        port=0,
        url=url,
    )

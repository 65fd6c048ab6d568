"""``semia studio``: label photographs, have generators made, and paint new layouts, in the browser."""

import asyncio
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semia.cli.console import is_interactive, print_error, print_info
from semia.cli.options import OptionalUrlOption, RepositoryOption, connection_options
from semia.core import BUNDLES_FOLDER, LOOPBACK, REPOSITORY_FOLDER, RUNS_FOLDER
from semia.core.errors import InputError

if TYPE_CHECKING:
    from semia.core.access import ServerAccess


@connection_options
def studio(
    scenes: Annotated[list[Path] | None, typer.Argument(metavar="[SCENE...]")] = None,
    url: OptionalUrlOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8765,
    host: str = LOOPBACK,
    page_cert: Path | None = None,
    page_key: Path | None = None,
    repository: RepositoryOption = REPOSITORY_FOLDER,
    uploads: Path = Path("scenes"),
    runs: Path = RUNS_FOLDER / "studio",
    bundles: Path = BUNDLES_FOLDER / "studio",
    segmenter: Annotated[tuple[Path, Path] | None, typer.Option(metavar="ENCODER DECODER")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open")] = True,
    *,
    access: "ServerAccess",
) -> None:
    """Open the studio: label a photograph, have its generator made, paint layouts and watch the picture.

    With --url it joins a running Triton, which must serve --repository; else it starts one of its own there.

    It listens on loopback, unless --host says otherwise, which needs TLS; and it answers the browser alone that opens
    the printed address. Layouts and label maps are saved in the scene folders. Ctrl-C stops it.

    Options:
        scenes: Scene folders to show; a photograph, img.*, is all they need.
        port: Port of the page; 0: any that is free.
        host: Name or address that the page is served and opened at; beyond loopback with TLS.
        page_cert: PEM file: the page's certificate. Turns TLS on for the page.
        page_key: PEM file: the private key of --page-cert.
        uploads: Folder in which photographs from the page become scenes.
        runs: Folder for the runs of generators that are made from the page.
        bundles: Folder for their bundles.
        segmenter: ONNX files of a SAM, SAM 2 or EfficientSAM of yours: clicks on an object then become its area.
        open_browser: Open the page in this desktop's browser.
    """
    from semia.studio.access import PageTls
    from semia.studio.app import run
    from semia.studio.studio import StudioSettings

    if (page_cert is None) != (page_key is None):
        raise InputError("TLS needs both --page-cert and --page-key")
    settings = StudioSettings(
        scenes=scenes or [],
        uploads=uploads,
        repository=repository,
        runs=runs,
        bundles=bundles,
        port=port,
        host=host,
        tls=None if page_cert is None or page_key is None else PageTls(page_cert, page_key),
        segmenter=segmenter,
        url=url,
        access=access,
    )

    async def on_ready(address: str, triton: str, problem: str) -> None:
        if problem:
            print_error(f"Triton does not run: {problem}", "server_failed")
        print_info(f"studio: {address}", "studio_ready", address=address, grpc=triton)
        print_info("Ctrl-C stops it")
        if open_browser and is_interactive():
            await asyncio.to_thread(webbrowser.open, address)

    print_info("starting the studio", "studio_starting")
    asyncio.run(run(settings, on_ready))
    print_info("stopped", "studio_stopped")

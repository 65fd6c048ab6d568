"""A real browser, and the studio in a process of its own for it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

HOW_TO_GET_ONE = (
    "no Chromium: install it from the system's packages (apt-get install chromium), "
    "or set SEMIA_BROWSER to the program of one"
)

ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]

LISTEN = """
window.pictures = [];
document.addEventListener("picture", (event) => window.pictures.push(event.detail));
"""


PAGE_ERRORS: list[str] = []
"""What was thrown in pages and caught by nobody."""


def browser_program() -> str | None:
    """The browser to drive, or None."""
    found = os.environ.get("SEMIA_BROWSER") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    return found if found is None else str(found)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window; skips where there is none."""
    program = browser_program()
    if program is None:
        pytest.skip(HOW_TO_GET_ONE)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=[*ARGUMENTS, *(["--no-sandbox"] if root else [])]
        )
        yield browser
        browser.close()


class StudioProcess:
    """`semia studio` as a person starts it."""

    def __init__(self, folder: Path, *arguments: str | Path, port: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "semia", "studio", *map(str, arguments), "--no-open", "--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=_environment()
        )
        assert self.process.stdout is not None, "it was asked for"
        said = ""
        for line in self.process.stdout:
            said += line
            if found := re.search(r"https?://\S+", line):
                self.address = found[0]
                return
        raise AssertionError(said)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def _environment() -> dict[str, str]:
    project = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])}


def open_page(
    browser: Browser, address: str, *, width: int = 1280, height: int = 720, dark: bool = False, before: str = ""
) -> Page:
    """The page in a fresh profile; what goes wrong in it is added to `PAGE_ERRORS`; ``before`` is run first."""
    context = browser.new_context(
        viewport=ViewportSize(width=width, height=height),
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
        ignore_https_errors=True,  # of certificates that the tests made
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: PAGE_ERRORS.append(f"{error}\n{error.stack}"))
    page.add_init_script(LISTEN + before)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


class Canvas:
    """A canvas of the page, in the coordinates of its label map."""

    def __init__(self, page: Page, room: str, view: str = "labels") -> None:
        self.page = page
        self.locator = page.locator(f"#{room}-room .view.{view} canvas")

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.locator.bounding_box()
        assert box is not None, "it is shown"
        camera: dict[str, float] = json.loads(self.locator.get_attribute("data-camera") or "")
        return box["x"] + camera["x"] + x * camera["scale"], box["y"] + camera["y"] + y * camera["scale"]

    def stroke(self, *points: tuple[float, float], steps: int = 4) -> None:
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=steps)
        self.page.mouse.up()

    def color_at(self, x: float, y: float) -> tuple[int, ...]:
        """What is drawn there, by a screenshot."""
        across, down = self.at(x, y)
        shot = self.page.screenshot(clip={"x": round(across), "y": round(down), "width": 1, "height": 1})
        red, green, blue = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))[0, 0].tolist()
        return red, green, blue

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.at(x, y))


def pictures(page: Page) -> list[dict[str, Any]]:
    """What the page has shown so far: times in milliseconds."""
    shown: list[dict[str, Any]] = page.evaluate("window.pictures")
    return shown


def settled(page: Page) -> None:
    """Wait until the newest label map's picture is shown."""
    page.wait_for_selector("#paint-room .live-state[data-state=idle]")
    page.wait_for_timeout(100)
    page.wait_for_selector("#paint-room .live-state[data-state=idle]")

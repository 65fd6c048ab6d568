"""What the studio's page does in a real Chromium, measured: python -m tests.load.studio label|latency --out FOLDER.

``label`` has photographs labelled the way a person does it, with strokes, fills and corrections, and counts them;
``latency`` paints on a served model and tells how long brush to picture takes, and how long painting blocks the page.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from semia.training.scene import Scene, load_scene
from tests.studio.browser import Canvas, StudioProcess, open_page, pictures, running_browser, settled

PROJECT = Path(__file__).parents[2]
PHOTOGRAPHS = {
    "pagoda": PROJECT / "examples" / "pagoda",
    "coffee": PROJECT / "examples" / "scenes" / "coffee",
    "flower": PROJECT / "examples" / "scenes" / "flower",
}
TARGET = 0.95
MAX_STROKES = 25
FILLING_STROKES = 12
"""After so many, what is left is corrected with the lasso."""

HAND = 2.0
"""Pixels by which a lasso drawn by hand is off the border."""

READ_DRAFT = """
(key) => new Promise((resolve) => {
  const opening = indexedDB.open("semia-studio", 1);
  opening.onsuccess = () => {
    const reading = opening.result.transaction("drafts").objectStore("drafts").get(key);
    reading.onsuccess = () => resolve(reading.result ? Array.from(reading.result.ids) : null);
  };
})
"""

TIME_EVERYTHING = """
window.blocked = [];
let spent = 0;
const timed = (work) => function (...values) {
  const began = performance.now();
  try {
    return work.apply(this, values);
  } finally {
    spent += performance.now() - began;
  }
};
const add = EventTarget.prototype.addEventListener;
const wrapped = new WeakMap();
EventTarget.prototype.addEventListener = function (kind, listener, ...rest) {
  if (typeof listener !== "function") return add.call(this, kind, listener, ...rest);
  if (!wrapped.has(listener)) wrapped.set(listener, timed(listener));
  return add.call(this, kind, wrapped.get(listener), ...rest);
};
const frame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) => frame(timed(callback));
const tick = () => {
  window.blocked.push(spent);
  spent = 0;
  frame(tick);
};
frame(tick);
"""


class Labeller:
    """Someone who knows what is where, and labels a photograph from nothing."""

    def __init__(self, page: Page, truth: Scene, out: Path) -> None:
        self._page = page
        self._truth = truth
        self._out = out
        self._canvas = Canvas(page, "label")
        self._shots: list[Path] = []
        self.strokes = 0

    def run(self) -> float:
        """Label it; returns the share of pixels that are right."""
        self._name_classes()
        self.shoot()
        self._page.get_by_role("checkbox", name="Follow every stroke").uncheck()
        for class_id in range(len(self._truth.palette)):
            self._stroke(self._truth.labels == class_id, class_id)
        self.shoot()
        ways = ("Fill from strokes", "Find more like this")
        shares = {way: self._press(way) for way in ways}
        way = max(shares, key=lambda each: shares[each])
        share = self._press(way)
        self.shoot()
        while share < TARGET and self.strokes < FILLING_STROKES:
            region, class_id = self._worst()
            self._stroke(region, class_id)
            better = self._press(way)
            if better < share + 0.004:
                share = better
                break
            share = better
        self.shoot()
        while share < TARGET and self.strokes < MAX_STROKES:
            self._lasso(*self._worst())
            share = self._right().mean()
        self.shoot()
        return float(share)

    def shoot(self) -> None:
        path = self._out / f"{self._truth.name}-{len(self._shots)}.png"
        self._page.screenshot(path=path)
        self._shots.append(path)

    def strip(self) -> Path:
        """All screenshots side by side, small."""
        shots = [Image.open(path).convert("RGB").resize((640, 360), Image.Resampling.LANCZOS) for path in self._shots]
        strip = Image.new("RGB", (640 * 2, 360 * ((len(shots) + 1) // 2)), "white")
        for place, shot in enumerate(shots):
            strip.paste(shot, (640 * (place % 2), 360 * (place // 2)))
        path = self._out / f"{self._truth.name}.jpg"
        strip.save(path, quality=85)
        return path

    def _name_classes(self) -> None:
        names = self._page.get_by_label("Name of the class")
        for number, name in enumerate(self._truth.palette.names):
            if number >= names.count():
                self._page.get_by_role("button", name="Add a class").click()
            names.nth(number).fill(name)
            names.nth(number).press("Enter")

    def _choose(self, class_id: int, key: str) -> None:
        radio = self._page.locator("#label-room .class input[type=radio]").nth(class_id)
        radio.check(force=True)
        self._canvas.locator.focus()
        self._page.keyboard.press(key)

    def _stroke(self, region: NDArray[np.bool_], class_id: int) -> None:
        self._choose(class_id, "m")
        self._canvas.stroke(*longest_line(largest(region)))
        self.strokes += 1

    def _lasso(self, region: NDArray[np.bool_], class_id: int) -> None:
        self._choose(class_id, "l")
        # Rather beyond the border than short of it, where the class is the right one there too.
        wider = ndimage.binary_dilation(region, iterations=3) & (self._truth.labels == class_id)
        contour = max(find_contours(np.pad(wider, 1).astype(float), 0.5), key=len) - 1
        corners = approximate_polygon(contour, HAND)
        self._canvas.stroke(*[(x + 0.5, y + 0.5) for y, x in corners], steps=1)
        self.strokes += 1

    def _press(self, way: str) -> float:
        self._page.get_by_role("button", name=way).click()
        self._page.wait_for_timeout(600)
        return float(self._right().mean())

    def _ids(self) -> NDArray[np.uint8]:
        self._page.wait_for_timeout(700)  # drafts are written a moment after the last step
        ids = self._page.evaluate(READ_DRAFT, f"label:{self._truth.name}")
        return np.array(ids, np.uint8).reshape(self._truth.labels.shape)

    def _right(self) -> NDArray[np.bool_]:
        return np.asarray(self._ids() == self._truth.labels, np.bool_)

    def _worst(self) -> tuple[NDArray[np.bool_], int]:
        """The largest area of one class that is labelled wrong."""
        wrong = ~self._right()
        areas = [(largest(wrong & (self._truth.labels == k)), k) for k in range(len(self._truth.palette))]
        return max(areas, key=lambda area: int(area[0].sum()))


def largest(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part."""
    numbers, count = ndimage.label(region)
    if count < 2:
        return region
    sizes = np.bincount(numbers.reshape(-1))
    sizes[0] = 0
    return np.asarray(numbers == sizes.argmax(), np.bool_)


def longest_line(region: NDArray[np.bool_]) -> tuple[tuple[float, float], tuple[float, float]]:
    """A long straight line well inside a region, as (x, y) to (x, y)."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    inside = depth >= min(10.0, 0.6 * depth.max())
    rows, columns = np.nonzero(inside)
    random = np.random.default_rng(0)
    best = ((float(columns[0]), float(rows[0])), (float(columns[0]) + 0.5, float(rows[0])))
    length = 0.0
    for first, second in random.integers(len(rows), size=(600, 2)):
        apart = float(np.hypot(rows[first] - rows[second], columns[first] - columns[second]))
        if apart <= length:
            continue
        steps = np.linspace(0, 1, int(apart) + 2)
        on_rows = np.rint(rows[first] + steps * (rows[second] - rows[first])).astype(int)
        on_columns = np.rint(columns[first] + steps * (columns[second] - columns[first])).astype(int)
        if inside[on_rows, on_columns].all():
            length = apart
            best = (
                (float(columns[first]) + 0.5, float(rows[first]) + 0.5),
                (float(columns[second]) + 0.5, float(rows[second]) + 0.5),
            )
    return best


def label(browser: Browser, out: Path, names: list[str], *, make: bool) -> None:
    """Label photographs from nothing, and say how many strokes it took."""
    for name in names:
        truth = load_scene(PHOTOGRAPHS[name])
        work = out / "work"
        shutil.rmtree(work, ignore_errors=True)
        folder = work / truth.name
        folder.mkdir(parents=True)
        Image.fromarray(truth.image).save(folder / "img.png")
        studio = StudioProcess(work, folder)
        try:
            page = open_page(browser, studio.address)
            labeller = Labeller(page, truth, out)
            began = time.monotonic()
            share = labeller.run()
            seconds = time.monotonic() - began
            page.keyboard.press("Control+s")
            page.get_by_text("Saved: label.png").wait_for()
            if make:
                _make(page, labeller)
            print(f"{name}: {100 * share:.1f} % right, {labeller.strokes} strokes and corrections, {seconds:.0f} s")
            print(f"  {labeller.strip()}")
        finally:
            studio.stop()


def _make(page: Page, labeller: Labeller) -> None:
    page.get_by_role("tab", name="Make").click()
    page.get_by_role("button", name="Make the generator").click()
    page.get_by_role("button", name="Paint with it").wait_for(timeout=600_000)
    labeller.shoot()
    page.get_by_role("button", name="Paint with it").click()
    settled(page)
    labeller.shoot()


def latency(browser: Browser, out: Path, scene: Path, url: str, dabs: int) -> None:
    """Paint, and say how long brush to picture takes beyond the answer's own time, and how long frames take."""
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copytree(scene, work / scene.name)
    studio = StudioProcess(work, work / scene.name, "--url", url)
    try:
        page = open_page(browser, studio.address, before=TIME_EVERYTHING)
        canvas = Canvas(page, "paint")
        settled(page)
        page.keyboard.press("b")
        shown = _painting(page, lambda place: canvas.click(60 + 7 * (place % 60), 80 + 3 * place % 200), dabs)
        beyond = np.array([each["brushToPicture"] - each["ms"] for each in shown])
        own = np.array([each["ms"] for each in shown])
        page.evaluate("window.blocked.length = 0")
        for place in range(12):
            canvas.stroke((40, 60 + 20 * place), (520, 90 + 18 * place), steps=60)
        blocked = np.array(page.evaluate("window.blocked"))
        page.keyboard.press("v")
        page.evaluate("window.blocked.length = 0")
        for place in range(6):
            canvas.stroke((170 + 20 * (place % 2), 200), (190 - 20 * (place % 2), 190), steps=40)
        moving = np.array(page.evaluate("window.blocked"))
        figures: dict[str, Any] = {
            "dabs": len(shown),
            "answer_ms": _quantiles(own),
            "beyond_answer_ms": _quantiles(beyond),
            "blocked_ms_a_frame_by_strokes": _quantiles(blocked),
            "blocked_ms_a_frame_by_moving_a_region": _quantiles(moving),
            "frames": len(blocked) + len(moving),
        }
        print(json.dumps(figures, indent=2))
    finally:
        studio.stop()


def _painting(page: Page, dab: Callable[[int], None], dabs: int) -> list[dict[str, Any]]:
    """One dab at a time, each waiting for its picture."""
    page.evaluate("window.pictures.length = 0")
    for place in range(dabs):
        page.keyboard.press(str(1 + place % 4))
        before = len(pictures(page))
        dab(place)
        until = time.monotonic() + 5
        while len(pictures(page)) == before and time.monotonic() < until:
            page.wait_for_timeout(10)
    return pictures(page)


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(np.quantile(values, share)), 1) for name, share in (("median", 0.5), ("p95", 0.95))}


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["label", "latency"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", nargs="+", default=[*PHOTOGRAPHS], choices=[*PHOTOGRAPHS])
    parser.add_argument("--make", action="store_true", help="label: have the generators made as well")
    parser.add_argument("--scene", type=Path, default=PHOTOGRAPHS["pagoda"], help="latency: of the served model")
    parser.add_argument("--url", default="127.0.0.1:8001", help="latency: of the server")
    parser.add_argument("--dabs", type=int, default=100)
    arguments = parser.parse_args()
    what: Literal["label", "latency"] = arguments.what
    arguments.out.mkdir(parents=True, exist_ok=True)
    with running_browser() as browser:
        if what == "label":
            label(browser, arguments.out.absolute(), arguments.photographs, make=arguments.make)
        else:
            latency(browser, arguments.out.absolute(), arguments.scene, arguments.url, arguments.dabs)


if __name__ == "__main__":
    main()

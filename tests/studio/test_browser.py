"""The page in a real Chromium, used as a person uses it: by pointer, by keyboard, and when something is killed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Route

from semia.client import SynthesisClient
from semia.core.images import read_rgb
from semia.core.labels import Canvas as Size
from semia.core.labels import read_class_ids
from semia.core.palette import Palette
from semia.serving import TritonServer, publish
from semia.training.scene import load_scene
from tests.studio.browser import PAGE_ERRORS, Canvas, StudioProcess, open_page, running_browser, settled
from tests.studio.test_comparing import paint_in

MakeBundle = Callable[..., Path]
SIZE = Size(48, 64)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def _nothing_was_thrown() -> Iterator[None]:
    PAGE_ERRORS.clear()
    yield
    assert not PAGE_ERRORS


@pytest.fixture
def studio(browser: Browser, tmp_path: Path, tiny_scene: Path, triton: TritonServer) -> Iterator[StudioProcess]:
    process = StudioProcess(tmp_path / "work", tiny_scene, "--url", triton.grpc_url)
    yield process
    process.stop()


def saved_as(page: Page, name: str) -> None:
    page.keyboard.press("Control+s")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_text(f"Saved as cond/{name}.png").wait_for()


def downloaded(page: Page, name: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    path = folder / f"{name}.png"
    download.value.save_as(path)
    return path


def test_a_stroke_gives_the_client_s_picture_and_the_saved_ids(
    browser: Browser,
    studio: StudioProcess,
    triton: TritonServer,
    tiny_scene: Path,
    tiny_ids: NDArray[np.uint8],
    tiny_palette: Palette,
    tmp_path: Path,
) -> None:
    page = open_page(browser, studio.address)
    canvas = Canvas(page, "paint")
    settled(page)
    page.keyboard.press("b")
    page.get_by_role("radio", name="roof").check(force=True)
    canvas.stroke((40, 10), (58, 10), (58, 26))
    settled(page)
    saved_as(page, "drawn")
    ids = read_class_ids(tiny_scene / "cond" / "drawn.png", tiny_palette, SIZE)
    changed = ids != tiny_ids
    assert changed[10, 40:58].all()
    assert changed[10:26, 58].all()
    assert (ids[changed] == 0).all()
    assert not changed[:, :30].any()
    assert np.array_equal(read_class_ids(downloaded(page, "Label map", tmp_path), tiny_palette, SIZE), ids), (
        "the downloaded label map is the saved one"
    )
    with SynthesisClient(triton.grpc_url) as client:
        expected = np.asarray(client.synthesize("tiny", ids))
    assert np.array_equal(read_rgb(downloaded(page, "Picture", tmp_path)), expected)
    page.keyboard.press("Control+z")
    settled(page)
    assert np.array_equal(read_class_ids(downloaded(page, "Label map", tmp_path), tiny_palette, SIZE), tiny_ids), (
        "undone"
    )


def test_the_keyboard_alone_moves_a_region(
    browser: Browser,
    studio: StudioProcess,
    triton: TritonServer,
    tiny_ids: NDArray[np.uint8],
    tiny_palette: Palette,
    tmp_path: Path,
) -> None:
    page = open_page(browser, studio.address)
    settled(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#paint-room .view.labels canvas')"):
            break
    else:
        pytest.fail("the canvas cannot be reached with Tab")
    page.keyboard.press("v")
    page.keyboard.press("Enter")  # the cursor appears in the middle, (32, 24)
    for _ in range(2):
        page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    settled(page)
    expected = np.where(tiny_ids == 0, 2, tiny_ids).astype(np.uint8)
    moved = read_class_ids(downloaded(page, "Label map", tmp_path), tiny_palette, SIZE)
    assert (moved[11:33, 38:58] == 0).all()
    assert (moved == 0).sum() == (tiny_ids == 0).sum()
    kept = (tiny_ids != 0) & (moved != 0)
    assert np.array_equal(moved[kept], expected[kept])
    with SynthesisClient(triton.grpc_url) as client:
        picture = np.asarray(client.synthesize("tiny", moved))
    assert np.array_equal(read_rgb(downloaded(page, "Picture", tmp_path)), picture)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert np.array_equal(read_class_ids(downloaded(page, "Label map", tmp_path), tiny_palette, SIZE), tiny_ids)


def test_a_draft_survives_a_reload_and_a_killed_studio(
    browser: Browser,
    tmp_path: Path,
    tiny_scene: Path,
    tiny_palette: Palette,
    triton: TritonServer,
    free_ports: list[int],
) -> None:
    """The page says that nobody answers, goes on painting, and has everything when the studio is back."""
    arguments = tmp_path / "work", tiny_scene, "--url", triton.grpc_url
    first = StudioProcess(*arguments, port=free_ports[0])
    page = open_page(browser, first.address)
    canvas = Canvas(page, "paint")
    settled(page)
    page.keyboard.press("b")
    canvas.stroke((5, 5), (5, 40))
    page.wait_for_timeout(600)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    settled(page)
    page.get_by_text("the photograph's own •").wait_for()
    first.kill()
    page.get_by_text("The studio does not answer").first.wait_for()
    page.keyboard.press("b")
    canvas.stroke((60, 5), (60, 40))
    painted = read_class_ids(downloaded(page, "Label map", tmp_path), tiny_palette, SIZE)
    page.wait_for_timeout(600)
    second = StudioProcess(*arguments, port=free_ports[0])
    try:
        page.goto(second.address)
        page.wait_for_selector("body[data-ready]")
        settled(page)
        restored = read_class_ids(downloaded(page, "Label map", tmp_path), tiny_palette, SIZE)
        assert np.array_equal(restored, painted)
        assert (restored[5:40, 60] == restored[5, 5]).all()
    finally:
        second.stop()


def test_only_what_is_painted_is_unsaved(browser: Browser, studio: StudioProcess) -> None:
    page = open_page(browser, studio.address)
    canvas, own = Canvas(page, "paint"), page.locator("#paint-room .layout.current")
    settled(page)
    canvas.click(15, 20)  # selects the roof
    page.locator("#paint-room .selection").get_by_label("Turn").wait_for()
    assert own.text_content() == "the photograph's own"
    page.keyboard.press("ArrowRight")
    page.get_by_text("the photograph's own •").wait_for()
    page.keyboard.press("Control+z")
    page.get_by_text("the photograph's own", exact=True).wait_for()
    page.wait_for_timeout(600)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    settled(page)
    assert own.text_content() == "the photograph's own"


def test_two_fingers_zoom_and_leave_no_stroke(browser: Browser, studio: StudioProcess, tmp_path: Path) -> None:
    page = open_page(browser, studio.address)
    canvas = Canvas(page, "paint")
    settled(page)
    page.keyboard.press("b")
    before = downloaded(page, "Label map", tmp_path).read_bytes()
    scale = json.loads(canvas.locator.get_attribute("data-camera") or "")["scale"]
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        at = [canvas.at(*point) for point in points]
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(at)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    send("touchStart", (20, 20))
    send("touchMove", (22, 20))
    send("touchStart", (22, 20), (40, 20))
    for step in range(1, 6):
        send("touchMove", (22 - step, 20), (40 + step, 20))
    send("touchEnd")
    page.wait_for_timeout(200)
    assert json.loads(canvas.locator.get_attribute("data-camera") or "")["scale"] > 1.2 * scale
    assert downloaded(page, "Label map", tmp_path).read_bytes() == before
    page.keyboard.press("0")
    page.wait_for_timeout(200)
    send("touchStart", (20, 20))
    send("touchMove", (30, 20))
    send("touchEnd")
    page.wait_for_timeout(200)
    assert downloaded(page, "Label map", tmp_path).read_bytes() != before, "one finger paints"


def test_a_triton_that_cannot_start_leaves_the_page(browser: Browser, tmp_path: Path, tiny_scene: Path) -> None:
    """What is published is broken: the command says so, and photographs can be labelled all the same."""
    broken = tmp_path / "work" / "model_repository" / "tiny"
    (broken / "1").mkdir(parents=True)
    (broken / "config.pbtxt").write_text("nonsense")
    studio = StudioProcess(tmp_path / "work", tiny_scene)
    try:
        page = open_page(browser, studio.address)
        page.get_by_text("Triton has ended").wait_for()
        page.get_by_role("tab", name="Label").click()
        page.wait_for_selector("#label-room .view.labels canvas[data-camera]")
    finally:
        studio.stop()


def test_a_scene_that_is_slow_to_open_does_not_replace_the_next(
    browser: Browser, tmp_path: Path, tiny_scene: Path, triton: TritonServer
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (90, 50), "gray").save(other / "img.png")
    studio = StudioProcess(tmp_path / "work", tiny_scene, other, "--url", triton.grpc_url)
    try:
        page = open_page(browser, studio.address)
        settled(page)

        def wait_then_go_on(route: Route) -> None:
            page.wait_for_timeout(700)
            route.continue_()

        page.route("**/api/scenes/tiny/label", wait_then_go_on)
        page.get_by_role("tab", name="Label").click()
        page.get_by_label("Scene").select_option("other")
        page.wait_for_timeout(1500)
        names = page.locator("#label-room").get_by_label("Name of the class")
        assert [names.nth(each).input_value() for each in range(names.count())] == ["background", "object"]
        page.get_by_role("tab", name="Paint").click()
        page.get_by_text("other has no generator yet").wait_for()
        studio.kill()
        page.get_by_label("Scene").select_option("tiny")
        page.get_by_role("tab", name="Label").click()
        page.locator("#label-room").get_by_text("The studio does not answer").wait_for()
        page.get_by_text("Studio stopped").wait_for()
    finally:
        if studio.process.poll() is None:
            studio.stop()


def test_a_scene_in_two_tabs_is_said(browser: Browser, studio: StudioProcess) -> None:
    page = open_page(browser, studio.address)
    second = page.context.new_page()
    second.goto(studio.address)
    second.get_by_text("tiny is open in another tab").wait_for()


def children_of(pid: int) -> list[int]:
    """All processes that a process started, and those that these started."""
    own = Path(f"/proc/{pid}/task").glob("*/children")
    direct = [int(child) for path in own for child in path.read_text().split()]
    return [*direct, *(child for each in direct for child in children_of(each))]


def test_triton_is_killed_while_painting_and_started_from_the_page(
    browser: Browser, tmp_path: Path, tiny_scene: Path, tiny_bundle: Path, embedded_triton: None
) -> None:
    publish(tiny_bundle, tmp_path / "work" / "model_repository")
    studio = StudioProcess(tmp_path / "work", tiny_scene)
    try:
        page = open_page(browser, studio.address)
        canvas = Canvas(page, "paint")
        settled(page)
        page.keyboard.press("b")
        for pid in children_of(studio.process.pid):
            if "tritonserver" in Path(f"/proc/{pid}/comm").read_text():
                os.kill(pid, signal.SIGKILL)
        canvas.stroke((60, 5), (60, 40))
        again = page.locator("#paint-room .banner").get_by_role("button", name="Start Triton again")
        again.wait_for()
        page.get_by_role("tab", name="Make").click()
        page.get_by_role("tab", name="Paint").click()
        page.locator("#paint-room .empty").get_by_role("button", name="Start Triton again").click()
        page.get_by_text("Triton runs").wait_for()
        settled(page)
        canvas.stroke((40, 5), (40, 30))
        settled(page)
        assert page.locator("#paint-room .banner").is_hidden()
        painted = np.asarray(Image.open(downloaded(page, "Label map", tmp_path)).convert("RGB"))
        picture = read_rgb(downloaded(page, "Picture", tmp_path))
        assert np.array_equal(picture, painted), "the tiny model paints each class in its own color"
    finally:
        studio.stop()


def test_a_wipe_between_two_versions_asked_at_once_and_a_held_picture(
    browser: Browser,
    tmp_path: Path,
    tiny_scene: Path,
    tiny_palette: Palette,
    make_bundle: MakeBundle,
    embedded_triton: None,
) -> None:
    """Left of the wipe is the other's picture of the layout as it is now, right of it the served version's."""
    repository = tmp_path / "work" / "model_repository"
    pastel = Palette(((250, 200, 200), (200, 250, 200), (200, 200, 250)))
    publish(paint_in(make_bundle, tmp_path / "1", "tiny", pastel, tiny_palette), repository)
    publish(make_bundle(tmp_path / "2"), repository)
    studio = StudioProcess(tmp_path / "work", tiny_scene)
    try:
        page = open_page(browser, studio.address)
        canvas, shown = Canvas(page, "paint"), Canvas(page, "paint", "picture")
        settled(page)
        other = page.get_by_label("Compare with")
        assert other.locator("option").all_text_contents() == ["nothing", "version 1"]
        other.select_option("version 1")
        page.get_by_role("slider", name="version 1 now").fill("50")

        def colors() -> tuple[tuple[int, ...], tuple[int, ...]]:
            left, right = (shown.color_at(x, 30) for x in (10, 50))
            return left, right

        page.wait_for_timeout(500)
        assert colors() == (pastel.colors[0], tiny_palette.colors[2])
        page.keyboard.press("b")
        page.get_by_role("radio", name="lawn").check(force=True)
        canvas.stroke((10, 24), (10, 33))
        canvas.stroke((50, 24), (50, 33))
        settled(page)
        page.wait_for_timeout(500)
        assert colors() == (pastel.colors[1], tiny_palette.colors[1])
        page.get_by_role("button", name="Hold this picture").click()
        assert other.locator("option").all_text_contents() == ["nothing", "the picture that is held", "version 1"]
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        settled(page)
        assert colors() == (tiny_palette.colors[1], tiny_palette.colors[2])
        other.select_option("nothing")
        page.wait_for_timeout(200)
        assert colors() == (tiny_palette.colors[0], tiny_palette.colors[2])
    finally:
        studio.stop()


def test_a_photograph_is_labelled_from_strokes(browser: Browser, tmp_path: Path) -> None:
    """Uploaded, classes named, a stroke on each, filled, corrected, saved: what training then reads."""
    rows, columns = np.mgrid[:120, :160]
    truth = np.where(rows > 80, 1, 0)
    truth[(rows - 45) ** 2 + (columns - 60) ** 2 < 25**2] = 2
    noise = np.random.default_rng(0).integers(-10, 10, (120, 160, 3))
    colors = np.array([[120, 170, 220], [70, 130, 60], [200, 90, 60]])
    photograph = tmp_path / "My Photo.png"
    Image.fromarray((colors[truth] + noise).clip(0, 255).astype(np.uint8)).save(photograph)
    studio = StudioProcess(tmp_path / "work")  # where nothing is published yet
    try:
        page = open_page(browser, studio.address)
        page.get_by_role("button", name="Add a photograph").click()
        page.get_by_label("Photograph", exact=True).set_input_files(photograph)
        assert page.get_by_label("Name of the scene").input_value() == "my-photo"
        page.get_by_role("dialog").get_by_role("button", name="Add").click()
        page.get_by_text("Name its classes").wait_for()
        names = page.get_by_label("Name of the class")
        names.nth(0).fill("sky")
        names.nth(1).fill("meadow")
        page.get_by_role("button", name="Add a class").click()
        names.nth(2).fill("sun")
        names.nth(2).press("Enter")
        canvas = Canvas(page, "label")
        canvas.locator.focus()
        for key, points in (("1", [(120, 20), (150, 60)]), ("2", [(20, 100), (140, 105)]), ("3", [(50, 40), (70, 50)])):
            canvas.locator.focus()
            page.keyboard.press(key)
            canvas.stroke(*points)
        page.get_by_role("button", name="Fill from strokes").click()
        page.locator(".assist-time", has_text="ms").wait_for()
        page.wait_for_timeout(500)
        page.keyboard.press("Control+s")
        page.get_by_text("Saved: label.png").wait_for()
        assert page.get_by_role("tab", name="Make").is_enabled()
    finally:
        studio.stop()
    scene = load_scene(tmp_path / "work" / "scenes" / "my-photo")
    assert sorted(scene.palette.names) == ["meadow", "sky", "sun"]
    labelled = np.array(scene.palette.names)[scene.labels]
    assert (labelled == np.array(["sky", "meadow", "sun"])[truth]).mean() > 0.97


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 1024), (False, 800)])
def test_nothing_keeps_people_out(browser: Browser, studio: StudioProcess, dark: bool, width: int) -> None:
    """axe-core finds nothing serious in any room, with a selection or a dialog open."""
    page = open_page(browser, studio.address, dark=dark, width=width)
    settled(page)
    problems: dict[str, list[str]] = {}

    def check(where: str) -> None:
        found = Axe().run(page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        if serious:
            problems[where] = [f"{each['id']}: {node['html'][:200]}" for each in serious for node in each["nodes"]]

    Canvas(page, "paint").click(15, 20)
    check("paint")
    page.keyboard.press("?")
    check("dialog")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Label").click()
    page.wait_for_selector("#label-room .view.labels canvas[data-camera]")
    check("label")
    page.get_by_role("tab", name="Make").click()
    check("make")
    assert not problems

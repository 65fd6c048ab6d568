"""What strangers, broken files and unlucky moments get: an answer in words; nothing is lost or written elsewhere."""

import asyncio
import contextlib
import dataclasses
import io
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from yarl import URL

from semia.serving import TritonServer, publish
from semia.studio.frames import pack, unpack
from tests.conftest import SmallDisk
from tests.studio.running import Visitor, settings_in, visit


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def _nothing_is_lost(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """No test here may change a file of the scene or write anywhere else, unless it says so."""
    if "tiny_scene" not in request.fixturenames:
        yield
        return
    scene = request.getfixturevalue("tiny_scene")
    before = files_under(scene)
    yield
    assert files_under(scene) == before
    assert sorted(path.name for path in tmp_path.iterdir()) in (["tiny"], ["tiny", "uploads"], ["disk", "tiny"])


@pytest.mark.parametrize(
    ("method", "headers", "words"),
    [
        ("GET", {"Host": "evil.example"}, "answers at"),
        ("GET", {"Host": "127.0.0.1"}, "answers at"),
        ("GET", {"Host": "127.0.0.1.nip.io:80"}, "answers at"),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, "other pages"),
        ("GET", {"Sec-Fetch-Site": "same-site"}, "other pages"),
        ("POST", {"Origin": "http://evil.example"}, "own page"),
        ("POST", {"Origin": "null"}, "own page"),
        ("DELETE", {"Origin": "http://localhost:1"}, "own page"),
        ("GET", {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://evil.example"}, "own page"),
    ],
)
def test_strangers_are_refused(
    tiny_scene: Path, tmp_path: Path, method: str, headers: dict[str, str], words: str
) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask(method, "/api/scenes/tiny/layouts/empty", headers=headers) as answer:
            assert answer.status == 403
            assert words in (await answer.json())["error"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    visit(settings_in(tmp_path, tiny_scene), errand)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/api/scenes", "/live/tiny"])
def test_nobody_comes_in_without_the_token(tiny_scene: Path, tmp_path: Path, path: str) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", path) as answer:
            assert answer.status == 403
        async with visitor.ask("GET", "/?token=guess", allow_redirects=False) as answer:
            assert answer.status == 403
            assert not answer.cookies

    visit(settings_in(tmp_path, tiny_scene), errand, admitted=False)


def test_the_token_becomes_a_cookie_that_pages_cannot_read(tiny_scene: Path, tmp_path: Path) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", visitor.address.path_qs, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            (cookie,) = answer.cookies.values()
            assert cookie["httponly"]
            assert cookie["samesite"] == "Strict"
        async with visitor.ask("GET", "/") as page:
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]
            assert page.headers["X-Frame-Options"] == "DENY"

    visit(settings_in(tmp_path, tiny_scene), errand)


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/api/scenes/..%2ftiny/layouts",
        "/api/scenes/tiny/layouts/..%2flabel",
        "/api/scenes/tiny/layouts/%2e%2e%2flabel",
        "/api/scenes/tiny/layouts/%00",
        "/api/scenes/nowhere/photograph",
    ],
)
def test_paths_lead_nowhere_else(tiny_scene: Path, tmp_path: Path, path: str) -> None:
    async def errand(visitor: Visitor) -> None:
        for method in ("GET", "DELETE"):
            async with visitor._session.request(
                method, URL(visitor.origin + path, encoded=True), headers={"Origin": visitor.origin}
            ) as answer:
                assert answer.status in (400, 404, 405, 503), await answer.text()
                assert "class " not in await answer.text()

    visit(settings_in(tmp_path, tiny_scene), errand)


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "", "x" * 65, "a\nb", "ends.", "\U0001f600" * 60])
def test_names_that_are_no_files_are_refused(tiny_scene: Path, tmp_path: Path, name: str, triton: TritonServer) -> None:
    async def errand(visitor: Visitor) -> None:
        content = json.dumps({"name": name})
        async with visitor.ask("POST", "/api/scenes/tiny/layouts/empty/name", data=content) as answer:
            assert answer.status in (400, 404), await answer.text()

    visit(settings_in(tmp_path, tiny_scene, url=triton.grpc_url), errand)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
BOMB = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
BOMB += (60_000).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SVG, "no photograph"),
        (b"", "no photograph"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "no photograph"),
        (np.random.default_rng(0).bytes(5000), "no photograph"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "photograph"),
        (BOMB, "photograph"),
    ],
)
def test_uploads_that_are_no_photographs_are_refused(tiny_scene: Path, tmp_path: Path, data: bytes, words: str) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("POST", "/api/scenes/new", data=data) as answer:
            text = (await answer.json())["error"]
            assert answer.status == 400, text
            assert words in text
            assert "<svg" not in text

    visit(settings_in(tmp_path, tiny_scene), errand)
    assert not (tmp_path / "uploads" / "new").exists()


def test_an_upload_of_100_megabytes_is_refused_unread(tiny_scene: Path, tmp_path: Path) -> None:
    async def errand(visitor: Visitor) -> None:
        with contextlib.suppress(aiohttp.ClientOSError):  # the studio may hang up before all of it was sent
            async with visitor.ask("POST", "/api/scenes/new", data=io.BytesIO(bytes(100 << 20))) as answer:
                assert answer.status == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(1 << 20)

        async with visitor.ask("POST", "/api/scenes/new", data=chunks()) as answer:
            assert answer.status == 413

    visit(settings_in(tmp_path, tiny_scene), errand)


def test_an_upload_is_written_anew(tiny_scene: Path, tmp_path: Path) -> None:
    """Whatever a file carries besides its pixels stays out; EXIF's orientation is applied."""
    path = tmp_path / "tiny.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    exif[0x010E] = "where I live"
    Image.new("RGB", (80, 40), "red").save(path, exif=exif)
    data = path.read_bytes()
    path.unlink()

    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("POST", "/api/scenes/new?max_side=60", data=data) as answer:
            assert answer.status == 400
            assert "each side must have at least 32" in (await answer.json())["error"]
        async with visitor.ask("POST", "/api/scenes/new?max_side=70", data=data) as answer:
            assert answer.status == 200, await answer.text()
        async with visitor.ask("POST", "/api/scenes/new", data=data) as answer:
            assert answer.status == 412

    visit(settings_in(tmp_path, tiny_scene), errand)
    (file,) = (tmp_path / "uploads" / "new").iterdir()
    with Image.open(file) as written:
        assert (written.format, written.size) == ("PNG", (35, 70))
    assert b"where I live" not in file.read_bytes()


def test_what_an_upload_has_that_is_ignored_is_said(tiny_scene: Path, tmp_path: Path) -> None:
    def file(picture: Image.Image, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG" if picture.mode != "F" else "TIFF", **options)
        return buffer.getvalue()

    red = Image.new("RGB", (40, 40), "red")
    negative = Image.fromarray(np.full((40, 40), -1, np.float32))

    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("POST", "/api/scenes/plain", data=file(red)) as answer:
            assert (await answer.json())["notes"] == []
        async with visitor.ask("POST", "/api/scenes/broken", data=file(red, icc_profile=b"none")) as answer:
            (note,) = (await answer.json())["notes"]
            assert note.startswith("the photograph: its color profile cannot be used")
        async with visitor.ask("POST", "/api/scenes/negative", data=file(negative)) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"].startswith("the photograph has gray values from -1 to 0")

    visit(settings_in(tmp_path, tiny_scene), errand)


def test_frames_of_random_bytes_get_words_and_the_socket_lives(
    tiny_scene: Path, tmp_path: Path, tiny_ids: NDArray[np.uint8], triton: TritonServer
) -> None:
    noise = np.random.default_rng(1)

    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
            card = (await answer.json())["card"]
        async with visitor.live("tiny", card) as socket:
            for _ in range(60):
                await socket.send_bytes(noise.bytes(int(noise.integers(400))))
                assert (await socket.receive_json(timeout=5))["kind"] == "frame"
            await socket.send_str("text")
            assert (await socket.receive_json(timeout=5))["kind"] == "frame"
            for width, height, top in ((64, 48, 9), (8, 4, 0)):  # an id without a class; another canvas
                ids = bytes([top]) * (width * height)
                await socket.send_bytes(pack({"sequence": 1, "width": width, "height": height}, ids))
                assert (await socket.receive_json(timeout=5))["kind"] == "changed"
            await socket.send_bytes(pack({"sequence": 7, "width": 64, "height": 48}, tiny_ids.tobytes()))
            frame = unpack(await socket.receive_bytes(timeout=20))
            assert frame.head["sequence"] == 7
        async with visitor.live("tiny", "another export") as socket:
            await socket.send_bytes(pack({"sequence": 1, "width": 64, "height": 48}, tiny_ids.tobytes()))
            assert (await socket.receive_json(timeout=20))["kind"] == "changed"

    visit(settings_in(tmp_path, tiny_scene, url=triton.grpc_url), errand)


def test_without_a_server_the_page_is_told(tiny_scene: Path, tmp_path: Path, free_ports: list[int]) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
            assert answer.status == 503
        async with visitor.live("tiny", "any") as socket:
            await socket.send_bytes(pack({"sequence": 1, "width": 8, "height": 8}, bytes(64)))
            assert (await socket.receive_json(timeout=20))["kind"] == "unavailable"

    visit(settings_in(tmp_path, tiny_scene, url=f"127.0.0.1:{free_ports[0]}"), errand)
    visit(settings_in(tmp_path, tiny_scene), errand)  # one of its own, with nothing to serve


def test_a_full_disk_is_said_and_leaves_the_old_file(small_disk: SmallDisk, tiny_scene: Path, tmp_path: Path) -> None:
    scene = small_disk.path / "small"
    scene.mkdir()
    Image.effect_noise((256, 256), 80).convert("RGB").save(scene / "img.png")
    ids = np.random.default_rng(0).integers(0, 2, (256, 256), np.uint8)
    classes = [{"name": "one", "color": "#FF0000"}, {"name": "two", "color": "#0000FF"}]
    frame = pack({"width": 256, "height": 256, "classes": classes}, ids.tobytes())

    async def errand(visitor: Visitor) -> None:
        small_disk.leave(0)
        async with visitor.ask("PUT", "/api/scenes/small/label", data=frame) as answer:
            assert answer.status == 507, await answer.text()
            assert "disk is full" in (await answer.json())["error"]
        assert [path.name for path in scene.iterdir()] == ["img.png"]
        small_disk.empty()
        async with visitor.ask("PUT", "/api/scenes/small/label", data=frame) as answer:
            assert answer.status == 200, await answer.text()

    visit(settings_in(tmp_path, tiny_scene, scene), errand)


def test_two_pages_on_one_layout(
    tiny_scene: Path, tmp_path: Path, tiny_ids: NDArray[np.uint8], triton: TritonServer
) -> None:
    """The second to save is told that the file is another by now; nothing is lost."""
    path = tiny_scene / "cond" / "empty.png"
    original = path.read_bytes()

    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", "/api/scenes/tiny/layouts/empty") as answer:
            head = unpack(await answer.read()).head
        frame = pack({"width": 64, "height": 48, "card": head["card"]}, tiny_ids.tobytes())
        tag = {"If-Match": head["tag"]}
        async with visitor.ask("PUT", "/api/scenes/tiny/layouts/empty", data=frame, headers=tag) as answer:
            assert answer.status == 200, await answer.text()
        saved = path.read_bytes()
        async with visitor.ask("PUT", "/api/scenes/tiny/layouts/empty", data=frame, headers=tag) as answer:
            assert answer.status == 412
            assert "changed on the disk" in (await answer.json())["error"]
        async with visitor.ask("PUT", "/api/scenes/tiny/layouts/empty", data=frame) as answer:
            assert answer.status == 412
            assert "already" in (await answer.json())["error"]
        assert path.read_bytes() == saved

    visit(settings_in(tmp_path, tiny_scene, url=triton.grpc_url), errand)
    path.write_bytes(original)


def test_a_server_that_is_killed_and_comes_back(
    tiny_scene: Path, tmp_path: Path, tiny_ids: NDArray[np.uint8], tiny_bundle: Path, embedded_triton: None
) -> None:
    """Of the studio's own Triton: the page is told at once, and can start it again."""
    repository = tmp_path.parent / f"{tmp_path.name}-served"
    publish(tiny_bundle, repository)
    settings = settings_in(tmp_path, tiny_scene)
    frame = pack({"sequence": 1, "width": 64, "height": 48}, tiny_ids.tobytes())

    async def errand(visitor: Visitor) -> None:
        await visitor.studio.triton.start()
        async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
            card = (await answer.json())["card"]
        async with visitor.live("tiny", card) as socket:
            await socket.send_bytes(frame)
            first = unpack(await socket.receive_bytes(timeout=20))
            server = visitor.studio.triton._server
            assert server is not None
            os.kill(server.pid, 9)
            await asyncio.sleep(0.5)
            await socket.send_bytes(frame)
            assert (await socket.receive_json(timeout=20))["kind"] == "unavailable"
            async with visitor.ask("POST", "/api/triton") as answer:
                assert (await answer.json())["triton"]["state"] == "running"
            async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
                assert answer.status == 200, "at once, though gRPC may wait before it connects again"
            async with asyncio.timeout(20):
                while True:  # as the page does
                    await socket.send_bytes(frame)
                    message = await socket.receive()
                    if message.type is aiohttp.WSMsgType.BINARY:
                        break
                    assert json.loads(message.data)["kind"] == "unavailable"
            assert unpack(message.data).body == first.body

    visit(dataclasses.replace(settings, repository=repository), errand)

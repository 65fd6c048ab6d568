"""Scenes through the studio's doors: labels, layouts and pictures are the ones that the rest of the house has."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from semia.client import ModelDescription, SynthesisClient
from semia.core.errors import InputError
from semia.core.images import read_rgb
from semia.core.labels import Canvas, read_class_ids
from semia.core.palette import Palette
from semia.serving import TritonServer
from semia.studio.errors import ChangedError
from semia.studio.frames import pack, unpack
from semia.studio.scenes import SceneFolder, Scenes
from semia.training.scene import Scene, load_scene, save_scene
from tests.studio.running import Visitor, settings_in, visit


def test_a_live_picture_is_the_client_s(
    tiny_scene: Path, tmp_path: Path, tiny_ids: NDArray[np.uint8], triton: TritonServer
) -> None:
    async def errand(visitor: Visitor) -> bytes:
        async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
            model = await answer.json()
        assert [each["name"] for each in model["classes"]] == ["roof", "lawn", "sky"]
        async with visitor.live("tiny", model["card"]) as socket:
            await socket.send_bytes(pack({"sequence": 3, "width": 64, "height": 48}, tiny_ids.tobytes()))
            frame = unpack(await socket.receive_bytes(timeout=20))
        assert frame.head["sequence"] == 3
        assert frame.head["version"] == model["version"]
        return frame.body

    picture = visit(settings_in(tmp_path, tiny_scene, url=triton.grpc_url), errand)
    with SynthesisClient(triton.grpc_url) as client:
        assert picture == client.synthesize("tiny", tiny_ids).tobytes()


def test_of_a_burst_of_label_maps_the_newest_is_answered_last(
    tiny_scene: Path, tmp_path: Path, triton: TritonServer
) -> None:
    async def errand(visitor: Visitor) -> list[int]:
        async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
            card = (await answer.json())["card"]
        answered: list[int] = []
        async with visitor.live("tiny", card) as socket:
            for sequence in range(50):
                ids = bytes([sequence % 3]) * (64 * 48)
                await socket.send_bytes(pack({"sequence": sequence, "width": 64, "height": 48}, ids))
            while not answered or answered[-1] != 49:
                answered.append(unpack(await socket.receive_bytes(timeout=20)).head["sequence"])
        return answered

    answered = visit(settings_in(tmp_path, tiny_scene, url=triton.grpc_url), errand)
    assert answered == sorted(answered)
    assert len(answered) < 50


def test_layouts_are_saved_read_renamed_and_deleted(
    tiny_scene: Path, tmp_path: Path, tiny_ids: NDArray[np.uint8], tiny_palette: Palette, triton: TritonServer
) -> None:
    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", "/api/scenes/tiny/source") as answer:
            source = unpack(await answer.read())
        assert source.body == tiny_ids.tobytes()
        moved = np.roll(tiny_ids, 20, axis=1)
        frame = pack({"width": 64, "height": 48, "card": source.head["card"]}, moved.tobytes())
        async with visitor.ask("PUT", "/api/scenes/tiny/layouts/moved", data=frame) as answer:
            assert answer.status == 200, await answer.text()
        assert np.array_equal(read_class_ids(tiny_scene / "cond/moved.png", tiny_palette, Canvas(48, 64)), moved)
        async with visitor.ask(
            "POST", "/api/scenes/tiny/layouts/moved/name", data='{"name": "to the right"}'
        ) as answer:
            assert answer.status == 200, await answer.text()
        async with visitor.ask(
            "POST", "/api/scenes/tiny/layouts/empty/name", data='{"name": "to the right"}'
        ) as answer:
            assert answer.status == 412
        async with visitor.ask("GET", "/api/scenes/tiny/layouts") as answer:
            assert [each["name"] for each in await answer.json()] == ["empty", "to the right"]
        async with visitor.ask("GET", "/api/scenes/tiny/layouts/to the right") as answer:
            assert unpack(await answer.read()).body == moved.tobytes()
        async with visitor.ask("DELETE", "/api/scenes/tiny/layouts/to the right") as answer:
            assert answer.status == 200
        stale = pack({"width": 64, "height": 48, "card": "an earlier export"}, moved.tobytes())
        async with visitor.ask("PUT", "/api/scenes/tiny/layouts/late", data=stale) as answer:
            assert answer.status == 412
            assert "published anew" in (await answer.json())["error"]

    visit(settings_in(tmp_path, tiny_scene, url=triton.grpc_url), errand)
    assert [path.name for path in (tiny_scene / "cond").iterdir()] == ["empty.png"]


def test_the_six_figures_of_a_layout(tmp_path: Path, field_scene: Scene) -> None:
    from semia.studio.judging import SceneJudge

    folder = tmp_path / "field"
    save_scene(field_scene, folder)
    model = ModelDescription("field", ("1",), field_scene.canvas, field_scene.palette, "card")
    judge, scene = SceneJudge(), SceneFolder(folder)
    own = judge.figures(scene, model, field_scene.labels, field_scene.image)
    assert [name.split()[0] for name in own] == ["align", "swd", "coherence", "complete", "sharp", "seams"]
    noise = np.random.default_rng(0).integers(0, 256, field_scene.image.shape, np.uint8)
    other = judge.figures(scene, model, field_scene.labels, noise)
    for figure in ("swd ↓", "coherence ↓"):
        mine, theirs = own[figure], other[figure]
        assert mine is not None
        assert theirs is not None
        assert mine < theirs


def test_a_label_map_is_saved_as_training_reads_it(tiny_scene: Path, tmp_path: Path) -> None:
    (tiny_scene / "cond" / "empty.png").unlink()
    ids = np.zeros((48, 64), np.uint8)
    ids[20:] = 2
    ids[5:15, 5:25] = 1
    classes = [
        {"name": "night", "color": "#101060"},
        {"name": "moon", "color": "#F0E080"},
        {"name": "sea", "color": "#2080A0"},
    ]

    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", "/api/scenes/tiny/label") as answer:
            tag = unpack(await answer.read()).head["tag"]
        speck = ids.copy()
        speck[0, 0] = 2
        speck[20:] = 0
        for wrong, words in ((speck, "class 'sea' has 1 pixels"), (ids + 1, "class id 3")):
            frame = pack({"width": 64, "height": 48, "classes": classes}, wrong.astype(np.uint8).tobytes())
            async with visitor.ask("PUT", "/api/scenes/tiny/label", data=frame, headers={"If-Match": tag}) as answer:
                assert answer.status == 400
                assert words in (await answer.json())["error"]
        frame = pack({"width": 64, "height": 48, "classes": classes}, ids.tobytes())
        async with visitor.ask("PUT", "/api/scenes/tiny/label", data=frame, headers={"If-Match": tag}) as answer:
            assert answer.status == 200, await answer.text()
        async with visitor.ask("PUT", "/api/scenes/tiny/label", data=frame, headers={"If-Match": tag}) as answer:
            assert answer.status == 412

    visit(settings_in(tmp_path, tiny_scene), errand)
    scene = load_scene(tiny_scene)
    names = np.array(scene.palette.names)
    assert np.array_equal(names[scene.labels], np.array(["night", "moon", "sea"])[ids])


def test_a_photograph_alone_is_a_scene_to_label(tiny_scene: Path, tmp_path: Path) -> None:
    for path in (tiny_scene / "label.png", tiny_scene / "classes.json"):
        path.unlink()

    async def errand(visitor: Visitor) -> None:
        async with visitor.ask("GET", "/api/scenes") as answer:
            (scene,) = await answer.json()
            assert (scene["name"], scene["labelled"]) == ("tiny", False)
        async with visitor.ask("GET", "/api/scenes/tiny/label") as answer:
            frame = unpack(await answer.read())
            assert (frame.head["width"], frame.head["height"], frame.head["tag"]) == (64, 48, "")
            assert not any(frame.body)
        async with visitor.ask("GET", "/api/scenes/tiny/photograph") as answer:
            (tmp_path / "photograph.png").write_bytes(await answer.read())

    visit(settings_in(tmp_path, tiny_scene), errand)
    assert np.array_equal(read_rgb(tmp_path / "photograph.png"), read_rgb(tiny_scene / "img.png"))


def test_names_of_layouts_that_disks_or_keyboards_take_for_one(
    tiny_scene: Path, tiny_ids: NDArray[np.uint8], tiny_palette: Palette
) -> None:
    """Without case, as on some disks; accents as two characters, as macOS writes them."""
    scene, cond = SceneFolder(tiny_scene), tiny_scene / "cond"
    with pytest.raises(ChangedError, match=r"there is a empty\.png already: choose another name"):
        scene.save_layout("Empty", tiny_ids, tiny_palette, "")
    scene.rename_layout("empty", "Empty")
    assert [path.name for path in cond.iterdir()] == ["Empty.png"]
    tag = scene.save_layout("e\u0301te\u0301", tiny_ids, tiny_palette, "")
    assert sorted(path.name for path in cond.iterdir()) == ["Empty.png", "\u00e9t\u00e9.png"]
    assert scene.save_layout("\u00e9t\u00e9", tiny_ids, tiny_palette, tag)
    with pytest.raises(ChangedError, match="there is a layout 'Empty' already"):
        scene.rename_layout("\u00e9t\u00e9", "EMPTY")
    scene.delete_layout("e\u0301te\u0301")
    assert [path.name for path in cond.iterdir()] == ["Empty.png"]


def test_uploads_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "uploads").touch()
    with pytest.raises(InputError, match="uploads is no folder: photographs from the page become folders in it"):
        Scenes([], tmp_path / "uploads")

"""Two generators of one scene compared: what the repository has beside what is served, drawn for the same layouts."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.core.palette import Palette
from semia.serving import publish
from semia.studio.frames import pack, unpack
from semia.studio.studio import StudioSettings
from tests.studio.running import Visitor, settings_in, visit

MakeBundle = Callable[..., Path]


def paint_in(make_bundle: MakeBundle, folder: Path, name: str, colors: Palette, palette: Palette) -> Path:
    """A bundle of a palette's classes that paints them in other colors."""
    bundle = make_bundle(folder, name=name, palette=colors)
    card = ModelCard.read(bundle / CARD_FILE)
    dataclasses.replace(card, palette=palette.hex_codes, class_names=palette.names).write(bundle / CARD_FILE)
    return bundle


@pytest.fixture
def pastel() -> Palette:
    return Palette(((250, 200, 200), (200, 250, 200), (200, 200, 250)))


@pytest.fixture
def settings(
    tmp_path: Path, tiny_scene: Path, tiny_palette: Palette, pastel: Palette, make_bundle: MakeBundle
) -> StudioSettings:
    """A studio whose repository has two versions of the scene's model and another that fits, among some that do not."""
    settings = settings_in(tmp_path, tiny_scene)
    swapped = Palette(tiny_palette.colors[::-1], tiny_palette.names[::-1])

    def add(name: str, colors: Palette, palette: Palette) -> None:
        bundle = paint_in(make_bundle, tmp_path / f"{name}-{len(palette)}-{colors.hex_codes[0]}", name, colors, palette)
        publish(bundle, settings.repository, change_classes=True)

    add("tiny", Palette(pastel.colors[::-1]), swapped)  # its ids are in another order
    add("tiny", tiny_palette, tiny_palette)
    more = Palette((*tiny_palette.colors, (9, 9, 9)), (*tiny_palette.names, "path"))
    add("more-classes", Palette((*pastel.colors, (9, 9, 9))), more)
    add("other-classes", pastel, pastel)
    publish(make_bundle(tmp_path / "large", name="large", height=96, width=128), settings.repository)
    return settings


async def told(visitor: Visitor) -> tuple[str, list[str]]:
    """The served model's card, and what it can be compared with."""
    async with visitor.ask("GET", "/api/scenes/tiny/model") as answer:
        card: str = (await answer.json())["card"]
    async with visitor.ask("GET", "/api/scenes/tiny/others") as answer:
        return card, [f"{each['model']}/{each['version']}" for each in await answer.json()]


async def ask(visitor: Visitor, card: str, other: str, ids: NDArray[np.uint8]) -> bytes | str:
    async with visitor.live("tiny", card, other) as socket:
        await socket.send_bytes(pack({"sequence": 7, "width": ids.shape[1], "height": ids.shape[0]}, ids.tobytes()))
        data: bytes | str = (await socket.receive(timeout=20)).data
        return data


def test_versions_and_other_models_of_the_same_classes_draw_the_same_layout(
    settings: StudioSettings, tiny_ids: NDArray[np.uint8], pastel: Palette, embedded_triton: None
) -> None:
    async def errand(visitor: Visitor) -> None:
        await visitor.studio.triton.start()
        card, others = await told(visitor)
        assert others == ["tiny/1", "more-classes/1"]
        for other in others:
            answer = await ask(visitor, card, other, tiny_ids)
            assert isinstance(answer, bytes), answer
            frame = unpack(answer)
            assert frame.head["version"] == other
            picture = np.frombuffer(frame.body, np.uint8).reshape(*tiny_ids.shape, 3)
            np.testing.assert_array_equal(picture, pastel.array[tiny_ids])
        refused = {
            "large/1": "has no version large/1",
            "tiny/2": "has no version tiny/2",
            "tiny/../more-classes/1": "has no version",
            "../tiny/1": "has no version",
        }
        for other, words in refused.items():
            assert words in json.loads(await ask(visitor, card, other, tiny_ids))["error"]
        for where, ids in ((card, tiny_ids[:-1]), (card, np.full_like(tiny_ids, 3))):
            said = json.loads(await ask(visitor, where, "tiny/1", ids))
            assert (said["kind"], said["sequence"]) == ("frame", 7)
        assert json.loads(await ask(visitor, "0" * 64, "tiny/1", tiny_ids))["kind"] == "changed"
        assert isinstance(await ask(visitor, card, "tiny/1", tiny_ids), bytes)
        (settings.repository / "more-classes" / "1" / MODEL_FILE).write_bytes(b"rotten")
        assert "not the graph its card describes" in str(await ask(visitor, card, "more-classes/1", tiny_ids))
        (settings.repository / "tiny" / "1" / CARD_FILE).write_bytes(b"rotten")
        assert (await told(visitor))[1] == ["more-classes/1"]

    visit(settings, errand)

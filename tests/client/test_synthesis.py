"""The client against a real Triton."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semia import serving
from semia.client import (
    ClientError,
    SynthesisClient,
    TargetSizeError,
    TargetTypeError,
    UnknownColorError,
    UnknownModelError,
    UnreadableTargetError,
)
from semia.core.errors import InputError, LabelMapError
from semia.core.files import sha256_of_file
from semia.core.images import open_image
from semia.core.labels import Canvas, write_class_ids
from semia.core.model_card import CARD_FILE
from semia.core.palette import Palette


@pytest.fixture(scope="module")
def client(triton: serving.TritonServer) -> Iterator[SynthesisClient]:
    with SynthesisClient(triton.grpc_url) as synthesis_client:
        yield synthesis_client


@pytest.fixture(scope="module")
def palette(client: SynthesisClient) -> Palette:
    return client.describe("tiny").palette


def test_models_lists_what_is_served(client: SynthesisClient) -> None:
    assert "tiny" in client.models()


def test_describe_says_what_the_card_says(client: SynthesisClient, tiny_bundle: Path) -> None:
    description = client.describe("tiny")
    assert description.name == "tiny"
    assert description.versions == ("1",)
    assert description.canvas == Canvas(height=48, width=64)
    assert description.palette == Palette(((255, 0, 0), (0, 255, 0), (0, 0, 255)), ("roof", "lawn", "sky"))
    assert description.model_card_sha256 == sha256_of_file(tiny_bundle / CARD_FILE)


@pytest.mark.parametrize("form", ["ids", "rgb", "picture", "indexed", "rgba", "half size", "path", "str"])
def test_the_pixels_are_right_for_every_form_of_target(
    client: SynthesisClient, palette: Palette, tmp_path: Path, form: str
) -> None:
    ids = np.repeat(np.repeat(np.arange(24 * 32).reshape(24, 32) % 3, 2, axis=0), 2, axis=1).astype(np.uint8)
    rgb = palette.render(ids)
    path = tmp_path / "target.png"
    write_class_ids(path, ids, palette)
    target: Any = {
        "ids": ids,
        "rgb": rgb,
        "picture": Image.fromarray(rgb),
        "indexed": open_image(path),
        "rgba": Image.fromarray(rgb).convert("RGBA"),
        "half size": Image.fromarray(rgb[::2, ::2]),
        "path": path,
        "str": str(path),
    }[form]
    picture = client.synthesize("tiny", target)
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), rgb)
    np.testing.assert_array_equal(client.class_ids("tiny", target), ids)


def test_arrays_need_not_be_contiguous(client: SynthesisClient, palette: Palette) -> None:
    ids = np.zeros((64, 48), dtype=np.uint8).T
    ids[:, :10] = 2
    np.testing.assert_array_equal(np.asarray(client.synthesize("tiny", ids)), palette.render(ids))
    upside_down = palette.render(ids)[::-1]
    np.testing.assert_array_equal(np.asarray(client.synthesize("tiny", upside_down)), upside_down)


def test_a_version_can_be_asked_for(client: SynthesisClient, palette: Palette) -> None:
    ids = np.ones((48, 64), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(client.synthesize("tiny", ids, version="1")), palette.render(ids))
    with pytest.raises(UnknownModelError, match=r"'7'.*ready: 1"):
        client.synthesize("tiny", ids, version="7")


def test_an_unknown_model_is_answered_with_the_known_ones(client: SynthesisClient) -> None:
    with pytest.raises(UnknownModelError, match=r"'castle'.*models: .*tiny") as caught:
        client.synthesize("castle", np.zeros((48, 64), dtype=np.uint8))
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "target",
    [
        np.zeros((47, 64), dtype=np.uint8),
        np.zeros((64, 48), dtype=np.uint8),
        np.zeros((24, 32), dtype=np.uint8),
        np.zeros((0, 64), dtype=np.uint8),
        np.full((64, 48, 3), (255, 0, 0), dtype=np.uint8),
        np.zeros((0, 0, 3), dtype=np.uint8),
        Image.new("RGB", (48, 64), (255, 0, 0)),
        Image.new("RGB", (1, 1), (255, 0, 0)),
        Image.new("RGB", (0, 0)),
    ],
    ids=lambda target: f"{type(target).__name__}-{np.shape(target)}",
)
def test_a_wrong_size_is_refused(client: SynthesisClient, target: Any) -> None:
    with pytest.raises(TargetSizeError) as caught:
        client.synthesize("tiny", target)
    assert isinstance(caught.value, LabelMapError)
    assert caught.value.exit_code == 2
    if isinstance(target, np.ndarray) and target.size:
        assert "64x48" in str(caught.value)


def test_an_unknown_color_is_named_with_its_share_and_the_palette(client: SynthesisClient, tmp_path: Path) -> None:
    picture = np.full((48, 64, 3), (255, 0, 0), dtype=np.uint8)
    picture[:24] = (250, 250, 10)
    path = tmp_path / "foreign.png"
    Image.fromarray(picture).save(path)
    with pytest.raises(UnknownColorError, match=r"#FAFA0A.*47\.9 %.*#FF0000 roof, #00FF00 lawn, #0000FF sky") as caught:
        client.synthesize("tiny", path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, LabelMapError)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.zeros((48, 64), dtype=np.int64), r"int64\[48, 64\].*astype"),
        (np.zeros((48, 64), dtype=np.bool_), "bool.*astype"),
        (np.zeros((48, 64, 3), dtype=np.float32), "float32.*astype"),
        (np.zeros((48, 64, 4), dtype=np.uint8), r"RGB uint8\[H, W, 3\]"),
        (np.zeros((1, 48, 64, 3), dtype=np.uint8), r"uint8\[1, 48, 64, 3\]"),
        (np.zeros(64, dtype=np.uint8), r"uint8\[64\]"),
        (np.full((48, 64), 3, dtype=np.uint8), "class id 3.*3 classes"),
        ([[0, 1], [1, 0]], "not list"),
        (None, "not NoneType"),
        (b"target.png", "not bytes"),
    ],
)
def test_what_is_no_target_is_refused_with_the_fix(client: SynthesisClient, target: Any, message: str) -> None:
    with pytest.raises(TargetTypeError, match=message):
        client.synthesize("tiny", target)


def test_unreadable_pictures_are_refused(client: SynthesisClient, tmp_path: Path) -> None:
    with pytest.raises(UnreadableTargetError, match="no such picture"):
        client.synthesize("tiny", tmp_path / "absent.png")
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnreadableTargetError, match=r"cut\.png"):
        client.synthesize("tiny", path)
    with Image.open(path) as lazily_opened, pytest.raises(UnreadableTargetError):
        client.synthesize("tiny", lazily_opened)


def test_threads_share_a_client(client: SynthesisClient, palette: Palette) -> None:
    targets = [np.full((48, 64), index % 3, dtype=np.uint8) for index in range(24)]
    with ThreadPoolExecutor(6) as pool:
        pictures = list(pool.map(lambda target: np.asarray(client.synthesize("tiny", target)), targets))
    for target, picture in zip(targets, pictures, strict=True):
        np.testing.assert_array_equal(picture, palette.render(target))


def test_publishing_anew_is_noticed_by_a_living_client(
    triton: serving.TritonServer, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """The colors trade ids, then the canvas turns: each time the client's next picture is right."""
    red_first = Palette(((255, 0, 0), (0, 0, 255)))
    blue_first = Palette(((0, 0, 255), (255, 0, 0)))
    target = np.full((48, 64, 3), (255, 0, 0), dtype=np.uint8)
    with SynthesisClient(triton.grpc_url) as client:
        for count, palette in enumerate((red_first, blue_first)):
            bundle = make_bundle(tmp_path / str(count), name="moving", palette=palette)
            serving.publish(bundle, triton.repository, change_classes=True)
            serving.load_model(triton.grpc_url, "moving")
            np.testing.assert_array_equal(np.asarray(client.synthesize("moving", target)), target)
        turned = make_bundle(tmp_path / "turned", name="moving", palette=blue_first, height=64, width=48)
        serving.publish(turned, triton.repository)
        serving.load_model(triton.grpc_url, "moving")
        assert client.synthesize("moving", target.transpose(1, 0, 2)).size == (48, 64)
        with pytest.raises(ClientError, match="48x64"):
            client.synthesize("moving", target)

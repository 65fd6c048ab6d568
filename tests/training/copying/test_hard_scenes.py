"""Scenes that are hard to copy from: each gives a picture, or one clear line."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from semia.core.errors import InputError
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.training.base import Renderer
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors

COLORS = np.random.default_rng(0).integers(0, 256, (24, 3)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A scene's pictures, by the targets' names; the photograph's own layout's is "source"."""

    scene: Scene
    pictures: Mapping[str, RGB]


def draw(labels: ClassIds, classes: int, **targets: ClassIds) -> Drawn:
    """Photograph classes in nearly flat colors, prepare, draw all targets, and check that they are pictures."""
    noise = np.random.default_rng(1).integers(-4, 5, (*labels.shape, 3))
    image = (COLORS[labels].astype(int) + noise).clip(0, 255).astype(np.uint8)
    palette = Palette(tuple((10 * number, 255 - 10 * number, 128) for number in range(classes)))
    scene = Scene("hard", image, labels, palette, {"source": labels, **targets})
    tensors = SceneTensors.from_scene(scene, CopyingSettings.multiple, torch.device("cpu"))
    generator = CopyingGenerator(CopyingSettings(), tensors).eval()
    generator.prepare()
    render = Renderer(generator, tensors)
    pictures = {name: render(target) for name, target in scene.targets.items()}
    assert all(picture.shape == image.shape for picture in pictures.values())
    return Drawn(scene, pictures)


def off_class(drawn: Drawn, name: str) -> float:
    """The share of pixels that look like another class than their target's, where the photograph has that class."""
    target, present = drawn.scene.targets[name], np.unique(drawn.scene.labels)
    away = np.stack([np.abs(drawn.pictures[name].astype(int) - COLORS[number]).sum(-1) for number in present])
    wrong: NDArray[np.bool_] = present[away.argmin(0)] != target
    return float(wrong[np.isin(target, present)].mean())


def off_color(drawn: Drawn, name: str) -> float:
    """The share of pixels that are not about the color of their target's class, of the classes in the photograph."""
    target = drawn.scene.targets[name]
    away = np.abs(drawn.pictures[name].astype(int) - COLORS[target]).max(-1)
    return float((away[np.isin(target, drawn.scene.labels)] > 8).mean())


def halves(height: int, width: int) -> ClassIds:
    ids = np.zeros((height, width), np.uint8)
    ids[: height // 2, width // 2 :] = 1
    return ids


def test_a_scene_of_one_class() -> None:
    labels = np.zeros((60, 80), np.uint8)
    drawn = draw(labels, 1)
    assert off_color(drawn, "source") == 0


def test_a_scene_of_24_classes() -> None:
    rows, columns = np.arange(60)[:, None] // 15, np.arange(84) // 14
    labels = (rows * 6 + columns).astype(np.uint8)
    assert len(np.unique(labels)) == 24
    drawn = draw(
        labels, 24, turned=labels[::-1, ::-1].copy(), mostly_missing=labels % np.uint8(3), one=np.full_like(labels, 17)
    )
    for name in ("source", "turned", "mostly_missing", "one"):
        assert off_color(drawn, name) < 0.01, name


def test_a_class_of_one_row_of_pixels() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[30] = 1
    thick = np.zeros_like(labels)
    thick[20:50, 10:60] = 1
    drawn = draw(labels, 2, thick=thick, everywhere=np.ones_like(thick), nowhere=np.zeros_like(thick))
    for name in ("source", "thick", "everywhere", "nowhere"):
        assert off_class(drawn, name) < 0.001, name


def test_a_target_of_classes_that_the_photograph_lacks() -> None:
    labels = halves(60, 80)
    drawn = draw(labels, 4, foreign=labels + np.uint8(2), half_foreign=labels * np.uint8(3))
    assert off_color(drawn, "half_foreign") < 0.01


@pytest.mark.parametrize(("height", "width"), [(1000, 33), (33, 1000)])
def test_a_strip(height: int, width: int) -> None:
    labels = halves(height, width)
    drawn = draw(labels, 2, turned=labels[::-1, ::-1].copy())
    assert off_color(drawn, "source") < 0.01
    assert off_color(drawn, "turned") < 0.02
    assert off_class(drawn, "turned") == 0


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 33), (184, 280), (51, 50)])
def test_sizes_that_halve_to_an_odd_number_of_pixels(height: int, width: int) -> None:
    labels = halves(height, width)
    drawn = draw(labels, 2, turned=labels[::-1, ::-1].copy())
    assert off_color(drawn, "source") < 0.01
    assert off_color(drawn, "turned") < 0.02
    assert off_class(drawn, "turned") == 0


@pytest.mark.slow
def test_a_large_photograph() -> None:
    labels = halves(1365, 2048)
    drawn = draw(labels, 2, turned=labels[::-1, ::-1].copy())
    assert off_color(drawn, "source") < 0.01
    assert off_color(drawn, "turned") < 0.01
    assert off_class(drawn, "turned") < 0.001


@pytest.mark.parametrize(("height", "width"), [(31, 1000), (1, 1), (40, 4097)])
def test_what_is_too_small_or_too_large_is_refused_in_one_line(height: int, width: int) -> None:
    with pytest.raises(InputError, match=r"scene hard: the canvas is .* each side must have 32 to 4096 pixels") as said:
        draw(halves(height, width), 2)
    assert "\n" not in str(said.value)

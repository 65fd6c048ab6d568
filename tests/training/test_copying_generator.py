from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from semia.images import RGB
from training.copying_generator import CopyingGenerator, token_side
from training.copying_settings import CopyingSettings
from training.rendering import Renderer
from training.scene import Scene
from training.tensors import SceneTensors

Field = Callable[..., NDArray[np.uint8]]
BOX = (slice(40, 72), slice(24, 48))  # in the photograph
SKY, GRASS, RED = (np.array(colour) for colour in ([120, 180, 230], [60, 140, 50], [180, 70, 40]))
TEXTURE = 20  # of 255, around these colours


@pytest.fixture(scope="module")
def render(copying: CopyingGenerator, field_tensors: SceneTensors) -> Renderer:
    return Renderer(copying, field_tensors)


def differ(a: RGB, b: RGB) -> NDArray[np.int64]:
    """Largest difference of any channel, for every pixel."""
    difference: NDArray[np.int64] = np.abs(a.astype(np.int64) - b).max(axis=-1)
    return difference


def test_the_photographs_layout_gives_the_photograph_back(render: Renderer, field_scene: Scene) -> None:
    assert differ(render(field_scene.labels), field_scene.image).max() <= 1


@pytest.mark.parametrize("corner", [(40, 72), (40, 8), (40, 96)])
def test_a_moved_object_is_copied_whole_to_the_pixel(
    render: Renderer, field_scene: Scene, field: Field, corner: tuple[int, int]
) -> None:
    top, left = corner
    picture = render(field(corner))
    assert differ(picture[top : top + 32, left : left + 24], field_scene.image[BOX])[2:-2, 2:-2].max() <= 1


def test_two_objects_are_made_from_one(render: Renderer, field_scene: Scene, field: Field) -> None:
    picture = render(field((40, 8), (40, 72)))
    for left in (8, 72):
        assert differ(picture[40:72, left : left + 24], field_scene.image[BOX])[4:-4, 4:-4].max() <= 1


def test_the_background_stays_where_it_is(render: Renderer, field_scene: Scene, field: Field) -> None:
    unchanged = differ(render(field((44, 77))), field_scene.image) <= 1
    changed = np.zeros((96, 128), dtype=bool)
    for top, left in ((40, 24), (44, 77)):
        changed[top - 8 : top + 40, left - 8 : left + 32] = True
    assert unchanged[~changed].all()


def test_where_an_object_was_its_background_is_completed(render: Renderer, field: Field) -> None:
    picture = render(field((44, 77))).astype(int)
    assert (np.abs(picture[42:54, 26:46] - SKY) <= TEXTURE + 2).all()
    assert (np.abs(picture[58:70, 26:46] - GRASS) <= TEXTURE + 2).all()


def test_a_class_that_the_target_drops_leaves_nothing_behind(render: Renderer, field: Field) -> None:
    picture = render(field()).astype(int)
    assert (np.abs(picture[:54] - SKY) <= TEXTURE + 2).all()
    assert (np.abs(picture[58:] - GRASS) <= TEXTURE + 2).all()


def test_a_tiny_spot_takes_its_class_colour(render: Renderer, field: Field) -> None:
    target = field((40, 24))
    target[20:23, 100:103] = 2
    assert (np.abs(render(target)[21, 101].astype(int) - RED) <= TEXTURE + 2).all()


def test_a_class_that_the_photograph_lacks_is_painted_somehow(render: Renderer, field: Field) -> None:
    target = field((40, 24))
    target[4:20, 90:110] = 3
    assert differ(render(target), render(field((40, 24))))[32:].max() <= 1


def test_its_state_is_all_it_needs(
    copying: CopyingGenerator,
    copying_settings: CopyingSettings,
    field_scene: Scene,
    field_tensors: SceneTensors,
    render: Renderer,
) -> None:
    loaded = CopyingGenerator(copying_settings, field_tensors)
    loaded.load_state_dict(copying.state_dict())
    target = field_scene.targets["moved"]
    assert np.array_equal(Renderer(loaded, field_tensors)(target), render(target))


def test_a_preparation_tells_its_stages_and_gives_the_same_state_every_time(
    copying: CopyingGenerator, copying_settings: CopyingSettings, field_tensors: SceneTensors
) -> None:
    told: list[tuple[str, float]] = []
    again = CopyingGenerator(copying_settings, field_tensors)
    again.prepare(lambda stage, share: told.append((stage, share)))
    state = copying.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] <= 1.0
    assert all(stage for stage, _ in told)


def test_what_a_preparation_tells_can_end_it(copying_settings: CopyingSettings, field_tensors: SceneTensors) -> None:
    def stop(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    generator = CopyingGenerator(copying_settings, field_tensors)
    with pytest.raises(KeyboardInterrupt):
        generator.prepare(stop)
    assert not generator.layers.any()


def test_a_batch_is_painted_as_its_layouts_are(
    copying: CopyingGenerator, field_tensors: SceneTensors, field: Field
) -> None:
    layouts = torch.from_numpy(np.stack([field((44, 77)), field((50, 3), (20, 60))])).long()
    with torch.no_grad():
        together = copying.synthesise(field_tensors, layouts)
        alone = [copying.synthesise(field_tensors, layout[None]) for layout in layouts]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize(("longer", "side"), [(60, 4), (400, 4), (401, 8), (800, 8), (1200, 16)])
def test_large_canvases_have_large_tokens(longer: int, side: int) -> None:
    assert token_side(longer, 40) == side
    assert token_side(40, longer) == side

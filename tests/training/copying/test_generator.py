"""The copying generator as a whole, on synthetic scenes whose right pictures are known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.training.base import Renderer
from semia.training.copying import levels
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors

Field = Callable[..., NDArray[np.uint8]]
CPU = torch.device("cpu")
FLAT_COLORS = np.array([[250, 250, 250], [10, 20, 30], [200, 0, 0], [0, 0, 210]], np.uint8)
HEIGHT, WIDTH = 120, 160
OBJECT_HEIGHT, OBJECT_WIDTH = 96, 80  # 40 % of the canvas
OBJECT_LEFT = 8
CLOSE = 2  # of 255


def prepared(image: RGB, labels: ClassIds) -> Renderer:
    """A prepared generator at work on a scene of up to four classes."""
    palette = Palette(((0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0)))
    tensors = SceneTensors.from_scene(Scene("scene", image, labels, palette), CopyingSettings.multiple, CPU)
    generator = CopyingGenerator(CopyingSettings(), tensors).eval()
    generator.prepare()
    return Renderer(generator, tensors)


def differ(a: RGB, b: RGB) -> NDArray[np.int64]:
    """Largest difference of any channel, for every pixel."""
    difference: NDArray[np.int64] = np.abs(a.astype(np.int64) - b).max(axis=-1)
    return difference


def psnr(a: RGB, b: RGB) -> float:
    """Peak signal-to-noise ratio in decibels; 100 for equal pictures."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-5)))


def likest_class(picture: RGB) -> NDArray[np.int64]:
    """Which of `FLAT_COLORS` each pixel is nearest to."""
    nearest: NDArray[np.int64] = np.abs(picture[:, :, None].astype(np.int64) - FLAT_COLORS).sum(-1).argmin(-1)
    return nearest


def texture(cell: int, seed: int) -> NDArray[np.float64]:
    """Smooth noise around 0 without any repetition, its grain about so many pixels."""
    grains = np.random.default_rng(seed).integers(0, 256, (HEIGHT // cell + 2, WIDTH // cell + 2, 3)).astype(np.uint8)
    smooth = Image.fromarray(grains).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(smooth).astype(np.float64) - 128


def standing(left: int) -> ClassIds:
    """An object on the lower border, before sky and grass."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[70:] = 1
    ids[HEIGHT - OBJECT_HEIGHT :, left : left + OBJECT_WIDTH] = 2
    return ids


@pytest.fixture(scope="module")
def standing_image() -> RGB:
    sky = np.linspace(120, 230, HEIGHT)[:, None, None] * np.array([0.7, 0.9, 1.0])
    parts = [sky + 0.02 * texture(1, 5), [60, 120, 40] + 0.25 * texture(3, 2), [150, 90, 70] + 0.6 * texture(8, 3)]
    labels = standing(OBJECT_LEFT)
    return np.select([(labels == number)[..., None] for number in range(3)], parts).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def standing_render(standing_image: RGB) -> Renderer:
    return prepared(standing_image, standing(OBJECT_LEFT))


@pytest.fixture(scope="module")
def flat_render(field: Field) -> Renderer:
    labels = field((40, 24), (10, 90))
    labels[60:90, 60:100] = 3
    return prepared(FLAT_COLORS[labels], labels)


@pytest.fixture(scope="module")
def render(copying: CopyingGenerator, field_tensors: SceneTensors) -> Renderer:
    return Renderer(copying, field_tensors)


def test_the_photographs_layout_gives_the_photograph_back(
    render: Renderer, field_scene: Scene, standing_render: Renderer, standing_image: RGB
) -> None:
    assert psnr(render(field_scene.labels), field_scene.image) >= 40
    assert psnr(standing_render(standing(OBJECT_LEFT)), standing_image) >= 40


def test_so_it_does_where_the_whole_canvas_is_not_searched(
    monkeypatch: pytest.MonkeyPatch, standing_image: RGB, standing_render: Renderer
) -> None:
    monkeypatch.setattr(levels, "SEARCHED_PIXELS", HEIGHT * WIDTH // 2)
    composed = prepared(standing_image, standing(OBJECT_LEFT))
    assert psnr(composed(standing(OBJECT_LEFT)), standing_image) >= 40
    moved = standing(OBJECT_LEFT + WIDTH // 4)
    assert not np.array_equal(composed(moved), standing_render(moved)), "or else this tested nothing"


@pytest.mark.parametrize("left", [OBJECT_LEFT + WIDTH // 4, OBJECT_LEFT + WIDTH // 8])
def test_an_object_on_the_lower_border_moves_with_its_texture(
    standing_render: Renderer, standing_image: RGB, left: int
) -> None:
    picture = standing_render(standing(left))
    top = HEIGHT - OBJECT_HEIGHT
    original = standing_image[top:, OBJECT_LEFT : OBJECT_LEFT + OBJECT_WIDTH]
    moved = picture[top:, left : left + OBJECT_WIDTH]
    assert (differ(moved, original) <= CLOSE).mean() > 0.7
    both = slice(left, OBJECT_LEFT + OBJECT_WIDTH)  # where the object is before and after
    assert (differ(picture[top:, both], standing_image[top:, both]) <= CLOSE).mean() < 0.05


def test_the_background_of_a_moved_object_stays_and_is_completed(
    standing_render: Renderer, standing_image: RGB
) -> None:
    target = standing(OBJECT_LEFT + WIDTH // 4)
    picture = standing_render(target)
    stays = (standing(OBJECT_LEFT) == target) & (target != 2)
    assert (differ(picture, standing_image) <= CLOSE)[stays].mean() > 0.7
    assert psnr(picture[stays], standing_image[stays]) > 28
    freed = (standing(OBJECT_LEFT) == 2) & (target != 2)
    sky, grass = picture[freed & (target == 0)].astype(int), picture[freed & (target == 1)].astype(int)
    assert (sky[:, 2] > sky[:, 0]).all(), "blue, not the object's colors"
    assert (grass[:, 1] > grass[:, 2]).mean() > 0.95


@pytest.mark.parametrize("corner", [(40, 72), (30, 50), (50, 3), (64, 104)])
def test_borders_are_where_the_layout_has_them_to_the_pixel(
    flat_render: Renderer, field: Field, corner: tuple[int, int]
) -> None:
    target = field(corner)
    target[70:90, 20:50] = 3
    picture = flat_render(target)
    assert np.array_equal(likest_class(picture), target)
    assert (picture == FLAT_COLORS[target]).all(-1).mean() > 0.98


@pytest.mark.parametrize("corner", [(40, 72), (30, 50), (50, 3), (64, 104)])
def test_flat_classes_have_no_other_color(flat_render: Renderer, field: Field, corner: tuple[int, int]) -> None:
    target = field(corner)
    target[70:90, 20:50] = 3
    assert np.array_equal(flat_render(target), FLAT_COLORS[target])


def test_a_small_piece_is_painted_before_a_background_that_its_class_never_had(
    flat_render: Renderer, field: Field
) -> None:
    target = field((40, 24))
    target[30:47, 10:21] = 3  # in the sky; the photograph has it in the grass
    assert np.array_equal(likest_class(flat_render(target)), target)


def test_what_is_one_pixel_thick_has_its_classs_color(flat_render: Renderer, field: Field) -> None:
    target = field((40, 24))
    target[5, 7:60] = 2
    assert (flat_render(target)[5, 7:60] == FLAT_COLORS[2]).all()


def test_two_objects_are_made_from_one(render: Renderer, field_scene: Scene, field: Field) -> None:
    picture, box = render(field((40, 8), (40, 72))), field_scene.image[40:72, 24:48]
    for left in (8, 72):
        assert (differ(picture[40:72, left : left + 24], box) <= CLOSE).mean() > 0.7


def test_a_class_that_the_photograph_lacks_changes_nothing_far_away(render: Renderer, field: Field) -> None:
    target = field((40, 24))
    target[4:20, 90:110] = 3
    assert differ(render(target), render(field((40, 24))))[60:, :60].max() <= CLOSE


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_no_picture(standing_render: Renderer, standing_image: RGB, threads: int) -> None:
    target = standing(OBJECT_LEFT + WIDTH // 4)
    expected = standing_render(target)
    torch.set_num_threads(threads)
    try:
        assert np.array_equal(prepared(standing_image, standing(OBJECT_LEFT))(target), expected)
    finally:
        torch.set_num_threads(1)


def test_a_batch_is_painted_as_its_layouts_are(
    copying: CopyingGenerator, field_tensors: SceneTensors, field: Field
) -> None:
    layouts = torch.from_numpy(np.stack([field((44, 77)), field((50, 3), (20, 60))])).long()
    with torch.no_grad():
        together = copying.synthesize(field_tensors, layouts)
        alone = [copying.synthesize(field_tensors, layout[None]) for layout in layouts]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(alone[0], alone[1])


def test_its_state_is_all_it_needs(
    copying: CopyingGenerator, field_scene: Scene, field_tensors: SceneTensors, render: Renderer
) -> None:
    loaded = CopyingGenerator(CopyingSettings(), field_tensors)
    loaded.load_state_dict(copying.state_dict())
    target = field_scene.targets["moved"]
    assert np.array_equal(Renderer(loaded, field_tensors)(target), render(target))


def test_a_preparation_tells_its_stages_and_gives_the_same_bytes_every_time(
    copying: CopyingGenerator, field_tensors: SceneTensors
) -> None:
    told: list[tuple[str, float]] = []
    again = CopyingGenerator(CopyingSettings(), field_tensors)
    again.prepare(lambda stage, share: told.append((stage, share)))
    state = copying.state_dict()
    assert state.keys() == again.state_dict().keys()
    for name, value in again.state_dict().items():
        assert value.numpy().tobytes() == state[name].numpy().tobytes(), name
    assert list(dict.fromkeys(stage for stage, _ in told)) == [
        "variants",
        "prior colors",
        "descriptors",
        "similar places",
    ]
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] < 1.0


@pytest.mark.parametrize("last", ["variants", "prior colors", "descriptors", "similar places"])
def test_a_stopped_preparation_leaves_it_unprepared(field_tensors: SceneTensors, last: str) -> None:
    def stop(stage: str, _share: float) -> None:
        if stage == last:
            raise KeyboardInterrupt

    generator = CopyingGenerator(CopyingSettings(), field_tensors)
    with pytest.raises(KeyboardInterrupt):
        generator.prepare(stop)
    assert not any(value.any() for value in generator.state_dict().values())

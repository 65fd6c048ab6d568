"""Parts of a layout that repeat the photograph's outlines elsewhere."""

import dataclasses

import numpy as np
import pytest
import torch

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.training.base import Renderer
from semia.training.copying import painting
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.moves import BONUS, MOVES, REACH, MoveFinder, Moves
from semia.training.copying.settings import CopyingSettings
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors

HEIGHT, WIDTH = 192, 288
STEP = 4  # pixels of the canvas to one of the size at which movements are looked for

LEFT, RIGHT = 40, 200  # where the towers begin
COPY = 56  # where a layout has the right ones once more, in place of the left ones
TOWERS = {LEFT: [90, 60, 104, 76], RIGHT: [72, 112, 88, 120]}  # how high their parts are, each 12 pixels wide
PART = 12


def towers(at: dict[int, list[int]]) -> ClassIds:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for left, heights in at.items():
        for number, height in enumerate(heights):
            column = left + number * PART
            labels[HEIGHT - 20 - height : HEIGHT - 20, column : column + PART] = 1
    return labels


def photograph(labels: ClassIds) -> RGB:
    """Towers with windows, each of which is as bright as it happens to be."""
    random = np.random.default_rng(0)
    image = np.full((HEIGHT, WIDTH, 3), (120, 170, 230), dtype=int)
    windows = random.integers(40, 161, (HEIGHT // 4, WIDTH // 4, 1)).repeat(4, 0).repeat(4, 1)
    image = np.where(labels[:, :, None] == 1, windows, image)
    picture: RGB = (image + random.integers(-3, 4, image.shape)).clip(0, 255).astype(np.uint8)
    return picture


SOURCE = towers(TOWERS)
MOVED = towers({COPY: TOWERS[RIGHT], RIGHT: TOWERS[RIGHT]})


@dataclasses.dataclass(frozen=True)
class Prepared:
    scene: SceneTensors
    generator: CopyingGenerator
    image: RGB

    @property
    def finder(self) -> MoveFinder:
        found = self.generator.ready(self.generator.tables())[0][1].moves
        assert found
        return found

    def find(self, *layouts: ClassIds) -> Moves:
        size = self.generator.ready(self.generator.tables())[0][1]
        ids = torch.stack([torch.as_tensor(layout.astype(np.int64)) for layout in layouts])
        shares = (ids[:, None] == torch.arange(2)[:, None, None]).float() * 256
        reduced = torch.floor(torch.nn.functional.avg_pool2d(shares, STEP) + 0.5)
        context = size.descriptors.context(reduced).flatten(1, 2)
        return self.finder.find(context, reduced.argmax(1).flatten(1))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    image = photograph(SOURCE)
    scene = Scene("towers", image, SOURCE, Palette(((0, 0, 255), (255, 0, 0))), {})
    tensors = SceneTensors.from_scene(scene, CopyingSettings.multiple, torch.device("cpu"))
    generator = CopyingGenerator(CopyingSettings(), tensors).eval()
    generator.prepare()
    return Prepared(tensors, generator, image)


def test_a_copy_beside_the_original_is_found(prepared: Prepared) -> None:
    moves = prepared.find(MOVED)
    assert moves.down[0, 0] == 0
    assert moves.right[0, 0] == (RIGHT - COPY) // STEP
    bonus = moves.bonus[0, 0]
    on_outline = (HEIGHT - 20 - 120) // STEP, (COPY + 3 * PART) // STEP
    assert bonus[on_outline] == BONUS
    assert not bonus[:, (COPY + 4 * PART) // STEP + REACH + 1 :].any()


def test_what_stays_is_no_movement(prepared: Prepared) -> None:
    moves = prepared.find(SOURCE)
    assert not moves.bonus.any()
    assert not moves.stay.any(), "what it weighs against"


def test_what_stays_beside_a_copy_is_offered_its_own_place(prepared: Prepared) -> None:
    stay = prepared.find(MOVED).stay[0, 0]
    assert stay[(HEIGHT - 20 - 110) // STEP, (RIGHT + PART + 4) // STEP] == BONUS
    assert stay[:, (COPY + 4 * PART) // STEP - 2].amax() < BONUS / 16, "another tower ends here"


def test_a_class_that_is_lit_does_not_move(prepared: Prepared) -> None:
    size = prepared.generator.ready(prepared.generator.tables())[0][1]
    lit = dataclasses.replace(size.tables, lit=(0,))
    finder = MoveFinder.of(lit, size.candidates, size.descriptors.context.size)
    assert finder.movable.flatten().tolist() == [0, 1]


def test_nothing_is_sure_where_neither_fits(prepared: Prepared) -> None:
    moves = prepared.find(MOVED)
    middle = (HEIGHT - 20 - 100) // STEP, (COPY + 2 * PART) // STEP
    assert moves.stay[0, 0][middle] == 0
    assert (moves.bonus[0, 1:, middle[0], middle[1]] < moves.bonus[0, 0][middle]).all()


def test_layouts_do_not_depend_on_each_other(prepared: Prepared) -> None:
    together = prepared.find(SOURCE, MOVED)
    for number, layout in enumerate((SOURCE, MOVED)):
        alone = prepared.find(layout)
        for field in dataclasses.fields(Moves):
            assert torch.equal(getattr(together, field.name)[number], getattr(alone, field.name)[0])


@pytest.mark.parametrize(("step", "half"), [(-13, -6), (-12, -6), (12, 6), (13, 7), (0, 0)])
def test_half_the_size_is_half_the_way(step: int, half: int) -> None:
    steps = torch.full((1, MOVES), step, dtype=torch.int32)
    moves = Moves(steps, -steps, torch.full((1, MOVES, 4, 6), 3.0), torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]]))
    halved = moves.halved()
    assert (halved.down == half).all()
    assert halved.bonus.shape == (1, MOVES, 2, 3)
    assert halved.stay.tolist() == [[[[1.0]]]]


def test_each_pixel_is_offered_its_likeliest_movement(prepared: Prepared) -> None:
    grid = prepared.finder.grid
    moves = prepared.find(MOVED)
    offers = moves.offers(prepared.generator.ready(prepared.generator.tables())[0][1].candidates)
    home = grid.inside()[0]
    for pixel in (0, grid.pixels // 2 + COPY // STEP, grid.pixels - 1):
        bonus = moves.bonus[0].flatten(1)[:, pixel]
        step = moves.down[0] * grid.stride + moves.right[0]
        expected = home[pixel] + (step[bonus.argmax()] if bonus.any() else 0)
        assert offers.moved[0, pixel] == expected
        assert offers.bonus[0, :, pixel].tolist() == [bonus.amax(), moves.stay[0].flatten()[pixel]]


def test_a_copy_looks_like_the_original(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def distance() -> float:
        picture = Renderer(prepared.generator, prepared.scene)(MOVED)
        columns = slice(COPY, COPY + 4 * PART), slice(RIGHT, RIGHT + 4 * PART)
        copy, original = (image[:, column] for image, column in zip((picture, prepared.image), columns, strict=True))
        inside = MOVED[:, columns[0]] == 1
        return float(np.abs(copy.astype(int) - original)[inside].mean())

    with_moves = distance()
    monkeypatch.setattr(painting, "_offers", lambda _sizes, _layouts: [])
    assert with_moves < 12
    assert distance() > 3 * with_moves, "what offers are for"

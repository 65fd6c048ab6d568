import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from semia.training.examples import draw_layout, draw_shapes, paint_examples, paint_plates
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors


@pytest.fixture(scope="module")
def plates(scene: Scene, tensors: SceneTensors) -> Tensor:
    return paint_plates(scene, tensors)


@pytest.mark.parametrize("pastes", [False, True])
def test_layouts_are_the_photograph_s_changed_in_places(pastes: bool, tensors: SceneTensors) -> None:
    layouts = [
        draw_layout(tensors.class_ids, torch.Generator().manual_seed(seed), pastes=pastes) for seed in (0, 0, *range(8))
    ]
    assert torch.equal(layouts[0], layouts[1])
    differing = torch.stack([(layout != tensors.class_ids).float().mean() for layout in layouts])
    assert differing.max() > 0
    assert differing.mean() < 0.5
    assert all(layout.shape == tensors.class_ids.shape for layout in layouts)
    assert set(torch.stack(layouts).flatten().tolist()) <= set(tensors.class_ids.flatten().tolist())


def test_shapes_make_pieces_grow_and_go(tensors: SceneTensors) -> None:
    own, box = tensors.class_ids, 2
    layouts = [draw_shapes(own, torch.Generator().manual_seed(seed)) for seed in (0, 0, *range(40))]
    assert torch.equal(layouts[0], layouts[1])
    assert torch.stack([(layout != own).float().mean() for layout in layouts]).mean() < 0.5
    assert any(((layout == box) & (own != box)).any() for layout in layouts)
    assert any(((layout != box) & (own == box)).any() for layout in layouts)


def test_plates_are_of_one_class_and_the_photograph_s_where_it_has_it(plates: Tensor, tensors: SceneTensors) -> None:
    assert (plates.shape, plates.dtype) == ((3, *tensors.image.shape[1:]), torch.uint8)
    photograph, ids = tensors.image[0], tensors.class_ids[0]
    for class_id, plate in enumerate(plates.float() / 127.5 - 1):
        here, there = plate.flatten(1).mean(1), photograph[:, ids == class_id].mean(1)
        torch.testing.assert_close(here, there, atol=0.15, rtol=0)
        far = torch.nn.functional.max_pool2d((ids != class_id).float()[None, None], 7, 1, 3)[0, 0] == 0
        torch.testing.assert_close(plate[:, far], photograph[:, far], atol=1e-6, rtol=0)


def test_a_class_without_places_of_its_own_has_a_plate(scene: Scene) -> None:
    thin = np.ones_like(scene.labels)
    thin[:, 30:32] = 2  # nothing of it is far from its outline, and there is no class 0
    thin_scene = dataclasses.replace(scene, labels=thin, targets={})
    plates = paint_plates(thin_scene, SceneTensors.from_scene(thin_scene, 8, torch.device("cpu")))
    assert plates.shape == (3, 3, 48, 64)


def test_examples_are_pictures_of_their_layouts(plates: Tensor, tensors: SceneTensors) -> None:
    examples = paint_examples(plates, 2, 0, tensors)
    assert len(examples) == 2
    for example in examples:
        assert example.image.shape == tensors.image.shape
        assert example.class_ids.shape == tensors.class_ids.shape
        assert example.image.abs().max() <= 1
        assert torch.equal(example.labels, tensors.colors(example.class_ids))
        # Each class has about the color that it has in the photograph.
        for class_id in set(example.class_ids.flatten().tolist()):
            here = example.image[0][:, example.class_ids[0] == class_id].mean(1)
            there = tensors.image[0][:, tensors.class_ids[0] == class_id].mean(1)
            torch.testing.assert_close(here, there, atol=0.3, rtol=0)


def test_examples_are_the_photograph_away_from_what_changes(plates: Tensor, tensors: SceneTensors) -> None:
    examples = paint_examples(plates, 8, 0, tensors)
    assert any(not torch.equal(example.class_ids, tensors.class_ids) for example in examples)
    for example in examples:
        changed = torch.nn.functional.max_pool2d((example.class_ids != tensors.class_ids).float(), 9, 1, 4)[0] > 0
        assert torch.equal(example.image[0][:, ~changed], tensors.image[0][:, ~changed])


def test_painting_stops_when_there_are_enough(plates: Tensor, tensors: SceneTensors) -> None:
    counts: list[int] = []

    def enough(count: int) -> bool:
        counts.append(count)
        return count == 2

    assert len(paint_examples(plates, 5, 0, tensors, enough=enough)) == 2
    assert counts == [1, 2]


def test_no_examples_need_no_painting(plates: Tensor, tensors: SceneTensors) -> None:
    assert paint_examples(plates, 0, 0, tensors) == []

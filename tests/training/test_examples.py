import pytest
import torch

from semia.training.examples import draw_layout, paint_examples
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors


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


def test_examples_are_pictures_of_their_layouts(scene: Scene, tensors: SceneTensors) -> None:
    examples = paint_examples(scene, 2, 0, tensors)
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


def test_painting_stops_when_there_are_enough(scene: Scene, tensors: SceneTensors) -> None:
    counts: list[int] = []

    def enough(count: int) -> bool:
        counts.append(count)
        return count == 2

    assert len(paint_examples(scene, 5, 0, tensors, enough=enough)) == 2
    assert counts == [1, 2]


def test_no_examples_need_no_copying_generator(
    scene: Scene, tensors: SceneTensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semia.training.examples.CopyingGenerator", None)
    assert paint_examples(scene, 0, 0, tensors) == []

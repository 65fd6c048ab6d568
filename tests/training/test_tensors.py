import torch

from semia.training.scene import Scene
from semia.training.tensors import SceneTensors, pad


def test_padding_repeats_the_last_row_and_column() -> None:
    padded = pad(torch.arange(6).reshape(1, 2, 3), 4)
    assert padded.tolist() == [[[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]]


def test_a_scene_is_padded_and_cropped_back(scene: Scene, tensors: SceneTensors) -> None:
    assert tensors.image.shape == (1, 3, 48, 64)
    assert tensors.class_ids.shape == (1, 48, 64)
    assert tensors.labels.shape == (1, 3, 48, 64)
    assert tensors.crop(tensors.image).shape == (1, 3, 44, 60)
    assert tensors.target_ids(scene.targets["moved"]).shape == (1, 48, 64)

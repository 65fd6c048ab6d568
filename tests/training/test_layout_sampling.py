import torch

from training.layout_sampling import CELLS, LayoutSampler

TOKEN = 4


def two_boxes() -> torch.Tensor:
    ids = torch.zeros(64, 96, dtype=torch.int64)
    ids[8:32, 8:40] = 1
    ids[36:60, 52:88] = 2
    return ids


def test_objects_are_found_largest_first_and_the_backdrop_has_none() -> None:
    sampler = LayoutSampler(two_boxes(), torch.tensor([True, False, False]), TOKEN)
    assert sampler.classes.tolist() == [2, 1]
    assert not sampler.backdrop.any()


def test_a_token_of_known_origin_shows_the_class_it_came_from() -> None:
    ids = two_boxes()
    sampler = LayoutSampler(ids, torch.tensor([True, False, False]), TOKEN)
    torch.manual_seed(0)
    layouts = sampler.draw(8)
    assert layouts.class_ids.shape == (8, 64 // TOKEN * CELLS, 96 // TOKEN * CELLS)
    shown = layouts.class_ids[:, ::CELLS, ::CELLS]
    # Whole tokens of one object: at a border, a token's first cell may show another class than its chief one.
    whole = torch.nn.functional.avg_pool2d((layouts.class_ids == 1).float(), CELLS) == 1
    known = layouts.known & whole
    assert known.sum() > 100
    y, x = layouts.origins[known].round().long().unbind(-1)
    at_origin = ids[TOKEN // 2 :: TOKEN, TOKEN // 2 :: TOKEN][y, x]
    assert (at_origin == shown[known]).float().mean() > 0.9


def test_layouts_differ_and_objects_are_left_out_and_doubled() -> None:
    sampler = LayoutSampler(two_boxes(), torch.tensor([True, False, False]), TOKEN)
    torch.manual_seed(1)
    areas = (sampler.draw(64).class_ids == 1).flatten(1).sum(1)
    assert areas.min() == 0
    assert areas.max() > 1.5 * sampler.areas[1]


def test_a_scene_in_which_nothing_moves_has_no_objects() -> None:
    sampler = LayoutSampler(torch.zeros(32, 32, dtype=torch.int64), torch.tensor([True]), TOKEN)
    assert len(sampler.objects) == 0

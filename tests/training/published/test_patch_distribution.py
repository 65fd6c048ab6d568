import pytest
import torch
import torch.nn.functional as F

from semia.training.published.losses import PatchDistribution

HEIGHT, WIDTH = 48, 64
HALVES = (torch.arange(WIDTH) >= WIDTH // 2).long().expand(1, HEIGHT, WIDTH)


def stripes() -> torch.Tensor:
    torch.manual_seed(0)
    columns = torch.where(torch.arange(WIDTH) // 4 % 2 == 0, 1.0, -1.0)
    return columns.expand(1, 3, HEIGHT, WIDTH) + 0.05 * torch.randn(1, 3, HEIGHT, WIDTH)


def test_patches_may_stand_elsewhere_but_not_be_their_mean() -> None:
    picture, distance = stripes(), PatchDistribution(2)
    moved = picture.roll((7, 8), (2, 3))
    blurred = F.avg_pool2d(picture, 9, stride=1, padding=4, count_include_pad=False)
    near, far = (distance(other, HALVES, picture, HALVES).item() for other in (moved, blurred))
    assert near < 0.1 * far


def test_each_class_is_compared_with_its_own() -> None:
    picture = torch.where(HALVES.unsqueeze(1) == 1, 1.0, -1.0).expand(1, 3, HEIGHT, WIDTH)
    distance = PatchDistribution(2)
    assert distance(picture, HALVES, picture, HALVES).item() < 0.1
    assert distance(-picture, HALVES, picture, HALVES).item() > 1


@pytest.mark.parametrize("lacking", ["output", "source"])
def test_a_class_that_one_picture_lacks_says_nothing(lacking: str) -> None:
    picture, everywhere = stripes(), torch.zeros_like(HALVES)
    output_ids, source_ids = (1 + everywhere, everywhere) if lacking == "source" else (everywhere, 1 + everywhere)
    assert PatchDistribution(3)(picture, output_ids, picture, source_ids).item() == 0


def test_ids_beyond_the_classes_do_not_count_and_little_counts_for_less() -> None:
    picture, wrong, distance = stripes(), torch.zeros(1, 3, HEIGHT, WIDTH), PatchDistribution(2)
    half_right = torch.where(HALVES.unsqueeze(1) == 1, wrong, picture)
    left, little = torch.where(HALVES == 1, 2, HALVES), torch.full_like(HALVES, 2)
    little[:, 20:24, 10:16] = 0
    source = (picture, torch.zeros_like(HALVES))
    assert distance(half_right, left, *source).item() < 0.25 * distance(wrong, left, *source).item()
    none, some, much = (distance(wrong, ids, *source).item() for ids in (torch.full_like(HALVES, 2), little, left))
    assert none == 0 < some < 0.5 * much


def test_only_the_output_learns() -> None:
    output, source = stripes().requires_grad_(), stripes()
    torch.autograd.backward(PatchDistribution(2)(0.5 * output, HALVES, source, HALVES))
    assert output.grad is not None
    assert output.grad.abs().max() > 0

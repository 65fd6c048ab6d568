import pytest
import torch

from semia.training.published.losses import GROUP, FeatureMap, PatchCoherence, _nearest, rgb_features


def one_map(image: torch.Tensor) -> list[FeatureMap]:
    return [FeatureMap(image, 3)]


@pytest.fixture
def halves() -> tuple[torch.Tensor, torch.Tensor]:
    """Left half dark, class 0; right half light, class 1."""
    image = torch.full((1, 3, 24, 24), -0.5)
    image[..., 12:] = 0.5
    ids = torch.zeros(1, 24, 24, dtype=torch.int64)
    ids[..., 12:] = 1
    return image, ids


def test_the_source_is_coherent_with_itself(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    torch.manual_seed(0)
    assert PatchCoherence(one_map, 2).to_source(image, ids, ids)(image).item() == pytest.approx(0, abs=1e-6)


def test_patches_of_another_class_do_not_count(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    torch.manual_seed(0)
    swapped = PatchCoherence(one_map, 2).to_source(image, ids, 1 - ids)(image).item()
    # Every patch has perfect copies, but of the other class; those of its own are half to one unit away.
    assert swapped > 0.5


def test_a_class_that_the_source_lacks_says_nothing(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    foreign = torch.full_like(ids, 2)
    assert PatchCoherence(one_map, 3).to_source(image, ids, foreign)(image).item() == 0


def test_it_equals_the_plain_loop() -> None:
    torch.manual_seed(1)
    output, source = torch.rand(1, 3, 9, 9), torch.rand(1, 3, 9, 9)
    output_ids, source_ids = torch.randint(0, 2, (2, 1, 9, 9))
    loss = PatchCoherence(one_map, 2, output_patches=16, source_patches=64).to_source(source, source_ids, output_ids)
    torch.manual_seed(2)
    value = loss(output)

    torch.manual_seed(2)
    drawn = torch.randint(49, (16,)).tolist()
    classes = source_ids[0, 1:-1, 1:-1].reshape(-1)
    positions = [(classes == each).nonzero().squeeze(1) for each in (0, 1)]
    shares = torch.rand(2, 32)
    candidates = [each[(share * len(each)).long()].tolist() for each, share in zip(positions, shares, strict=True)]

    def at(image: torch.Tensor, index: int) -> torch.Tensor:
        return image[0, :, index // 7 : index // 7 + 3, index % 7 : index % 7 + 3]

    expected = []
    for index in drawn:
        same = candidates[output_ids[0, index // 7 + 1, index % 7 + 1]]
        nearest = sorted(same, key=lambda one: (at(output, index) - at(source, one)).square().sum().item())[:5]
        expected += [(at(output, index) - at(source, one)).abs().mean().item() for one in nearest]
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_gradients_pull_the_output_towards_the_source(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    output = (image + 0.2).requires_grad_()
    torch.manual_seed(0)
    torch.autograd.backward(PatchCoherence(rgb_features, 2).to_source(image, ids, ids)(output))
    assert output.grad is not None
    assert (output.grad[..., 4:-4, 4:8] > 0).all()


@pytest.mark.parametrize("groups", [1, 3, 40])
def test_grouped_search_finds_the_nearest_of_the_class(groups: int) -> None:
    torch.manual_seed(3)
    queries, keys = torch.rand(50, 27), torch.rand(2, groups * GROUP, 27)
    classes = torch.randint(0, 2, (50,))
    expected = (queries.unsqueeze(1) - keys[classes]).norm(dim=-1).topk(5, largest=False).values
    found = keys.flatten(0, 1)[_nearest(queries, classes, keys.flatten(0, 1), 2)]
    assert torch.allclose((queries.unsqueeze(1) - found).norm(dim=-1), expected, atol=1e-4)


def test_mixed_precision_does_not_blur_the_search(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    loss = PatchCoherence(one_map, 2).to_source(image, ids, ids)
    output = image + 0.01 * torch.rand_like(image)
    values = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            values.append(loss(output))
    assert torch.equal(values[0], values[1])

import pytest
import torch

from training.patch_coherence import FeatureMap, PatchCoherence, rgb_features


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
    assert PatchCoherence(one_map)(image, ids, image, ids).item() == pytest.approx(0, abs=1e-6)


def test_patches_of_another_class_do_not_count(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    torch.manual_seed(0)
    swapped = PatchCoherence(one_map)(image, 1 - ids, image, ids).item()
    # Every patch has perfect copies, but of the other class; those of its own are half to one unit away.
    assert swapped > 0.5


def test_a_class_that_the_source_lacks_says_nothing(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    foreign = torch.full_like(ids, 2)
    assert PatchCoherence(one_map)(image, foreign, image, ids).item() == 0


def test_it_equals_the_plain_loop() -> None:
    torch.manual_seed(1)
    output, source = torch.rand(1, 3, 9, 9), torch.rand(1, 3, 9, 9)
    output_ids, source_ids = torch.randint(0, 2, (2, 1, 9, 9))
    loss = PatchCoherence(one_map, output_patches=16, source_patches=64)
    torch.manual_seed(2)
    value = loss(output, output_ids, source, source_ids)

    torch.manual_seed(2)
    drawn = torch.randint(49, (16,)).tolist()
    classes = source_ids[0, 1:-1, 1:-1].reshape(-1)
    shares = torch.tensor([1 / (classes == class_id).sum().item() for class_id in classes])
    candidates = torch.multinomial(shares, 64, replacement=True).tolist()

    def at(image: torch.Tensor, index: int) -> torch.Tensor:
        return image[0, :, index // 7 : index // 7 + 3, index % 7 : index % 7 + 3]

    expected = []
    for index in drawn:
        same = [one for one in candidates if classes[one] == output_ids[0, index // 7 + 1, index % 7 + 1]]
        distances = sorted((at(output, index) - at(source, one)).square().mean().item() for one in same)
        expected += distances[:5]
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_gradients_pull_the_output_towards_the_source(halves: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, ids = halves
    output = (image + 0.2).requires_grad_()
    torch.manual_seed(0)
    torch.autograd.backward(PatchCoherence(rgb_features)(output, ids, image, ids))
    assert output.grad is not None
    assert (output.grad[..., 4:-4, 4:8] > 0).all()

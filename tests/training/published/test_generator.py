import pytest
import torch

from semia.training.published.generator import OUTLINE, Generator, Translation, modulate
from semia.training.tensors import SceneTensors


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(width=8, depth=3)


def images(count: int = 1, size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    return torch.rand(count, 3, *size) * 2 - 1


def test_the_published_size() -> None:
    # 5.51 M in the public code, less the label encoder's last block, which nothing there reads.
    unread = 256 * 256 * 9 + 2 * 256
    count = sum(parameter.numel() for parameter in Generator(32, 3).parameters())
    assert round((count + unread) / 1e6, 2) == 5.51


def test_a_batch_of_layouts_is_painted_as_each_alone(tensors: SceneTensors) -> None:
    torch.manual_seed(0)
    generator = Generator(8, 3, ratio_limit=4.0).eval()
    layouts = torch.cat([tensors.class_ids, tensors.class_ids.flip(2)])
    with torch.no_grad():
        images = generator.synthesize(tensors, layouts)
        alone = [generator.synthesize(tensors, layout.unsqueeze(0)) for layout in layouts]
        expected = generator(tensors.image, tensors.labels, tensors.labels).image
    assert images.shape == (2, 3, 48, 64)
    assert torch.allclose(images, torch.cat(alone), atol=1e-3)
    assert torch.equal(alone[0], expected)


def test_with_plates_a_layout_is_drawn_from_a_draft(tensors: SceneTensors) -> None:
    plates = torch.randint(0, 256, (3, *tensors.image.shape[1:]), dtype=torch.uint8)
    generator = Generator(8, 3, ratio_limit=4.0, plates=plates).eval()
    layouts = torch.cat([tensors.class_ids, tensors.class_ids.clone()])
    layouts[1, 10, 20] = (layouts[1, 10, 20] + 1) % 3
    drafts = generator.image_for(tensors, layouts)
    assert drafts.shape == (2, 3, 48, 64)
    assert torch.equal(drafts[0], tensors.image[0])
    near = torch.zeros(48, 64, dtype=torch.bool)
    near[10 - OUTLINE : 11 + OUTLINE, 20 - OUTLINE : 21 + OUTLINE] = True
    assert torch.equal(drafts[1][:, ~near], tensors.image[0][:, ~near])
    for class_id, plate in enumerate(plates):
        there = near & (layouts[1] == class_id)
        assert torch.equal(drafts[1][:, there], plate[:, there] / 127.5 - 1)
    with torch.no_grad():
        images = generator.synthesize(tensors, layouts)
        expected = generator(drafts[1:], tensors.labels, tensors.colors(layouts[1:])).image
    assert torch.allclose(images[1:], expected, atol=1e-3)
    assert torch.equal(generator.state_dict()["plates"], plates)


def test_without_plates_every_layout_is_drawn_from_the_photograph(tensors: SceneTensors) -> None:
    generator = Generator(8, 3)
    layouts = torch.cat([tensors.class_ids, tensors.class_ids.flip(2)])
    assert torch.equal(generator.image_for(tensors, layouts), torch.cat([tensors.image, tensors.image]))
    assert "plates" not in generator.state_dict()


def test_shapes_level_by_level(generator: Generator) -> None:
    synthesis = generator(images(2), images(2), images(2))
    assert synthesis.image.shape == (2, 3, 32, 48)
    expected = [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6)]
    assert [tuple(gamma.shape) for gamma in synthesis.translation.gammas] == expected
    assert [tuple(beta.shape) for beta in synthesis.translation.betas] == expected


def test_equal_label_maps_have_ratio_one_and_difference_zero(generator: Generator) -> None:
    features = generator.eval().label_encoder(images())
    same = generator.translate(features, features)
    for gamma_head, beta_head, gamma, beta, feature in zip(
        generator.gamma_heads, generator.beta_heads, *same, features, strict=True
    ):
        assert torch.allclose(gamma, gamma_head(torch.ones_like(feature)), atol=1e-6)
        assert torch.allclose(beta, beta_head(torch.zeros_like(feature)), atol=1e-6)


def test_a_ratio_limit_keeps_tiny_denominators_from_exploding() -> None:
    torch.manual_seed(0)
    free, limited = Generator(8, 3), Generator(8, 3, ratio_limit=4.0)
    limited.load_state_dict(free.state_dict())
    source = [torch.full((1, 16 << level, 4, 4), 1e-9) for level in range(3)]
    target = [torch.ones(1, 16 << level, 4, 4) for level in range(3)]
    exploded = free.eval().translate(source, target).gammas[0].abs().max()
    assert exploded > 1e3 * limited.eval().translate(source, target).gammas[0].abs().max()


def test_modulation_sets_each_channels_statistics() -> None:
    x = torch.randn(2, 3, 16, 16) * 7 + 5
    result = modulate(x, torch.full_like(x, 2.0), torch.full_like(x, -1.0))
    assert torch.allclose(result.mean((2, 3)), torch.full((2, 3), -1.0), atol=1e-4)
    assert torch.allclose(result.std((2, 3)), torch.full((2, 3), 2.0), atol=1e-3)


def test_every_parameter_is_reached_by_gradients(generator: Generator) -> None:
    generator(images(), images(), images()).image.square().sum().backward()
    unreached = [name for name, parameter in generator.named_parameters() if parameter.grad is None]
    assert unreached == []


def test_the_image_part_can_be_computed_beforehand(generator: Generator) -> None:
    generator.eval()
    image, labels = images(), images()
    features = generator.label_encoder(labels)
    translation: Translation = generator.translate(features, features)
    encoder = generator.image_encoder
    assert torch.equal(encoder(image, translation), encoder.continue_from(encoder.unmodulated(image), translation))


def test_at_inference_each_label_map_is_read_alone(generator: Generator) -> None:
    generator.eval()
    image, source, target = images(), images(), images()
    translation = generator.translate(generator.label_encoder(source), generator.label_encoder(target))
    for together, alone in zip(generator(image, source, target).translation.gammas, translation.gammas, strict=True):
        assert torch.equal(together, alone)


def test_in_training_both_label_maps_share_batch_statistics(generator: Generator) -> None:
    dark, bright = images() - 5, images() + 5
    both = generator.label_encoder(torch.cat([dark, bright]))
    expected = generator.translate([f[:1] for f in both], [f[1:] for f in both])
    assert torch.allclose(generator(images(), dark, bright).translation.betas[0], expected.betas[0], atol=1e-3)


def test_mixed_precision_takes_ratios_in_float32(generator: Generator) -> None:
    ratios = []
    generator.gamma_heads[0].register_forward_pre_hook(lambda _, inputs: ratios.append(inputs[0]))
    source = [torch.full((1, 16 << level, 4, 4), 1e-30, dtype=torch.bfloat16) for level in range(3)]
    target = [torch.full_like(each, 1.0) for each in source]
    with torch.autocast("cpu", torch.bfloat16):
        gammas, betas = generator.translate(source, target)
    assert ratios[0].dtype == torch.float32
    assert ratios[0].max().item() == pytest.approx(1e14, rel=1e-3)
    assert all(torch.isfinite(each).all() for each in (*gammas, *betas))


@pytest.mark.parametrize("count", [1, 2])
def test_modulation_is_the_same_with_and_without_gradients(count: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(count, 3, 8, 8, requires_grad=True)
    gamma, beta = torch.randn(2, count, 3, 8, 8)
    trained = modulate(x, gamma, beta)
    torch.autograd.backward(trained.sum())
    assert x.grad is not None
    assert torch.allclose(trained, modulate(x.detach(), gamma, beta), atol=1e-5)
    variance, mean = torch.var_mean(x.detach(), dim=(2, 3), keepdim=True)
    expected = gamma * (x.detach() - mean) / torch.sqrt(variance + 1e-5) + beta
    assert torch.allclose(trained, expected, atol=1e-5)

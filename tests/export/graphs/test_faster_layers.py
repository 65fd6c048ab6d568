import torch
from torch import nn

from semia.export.graphs.published import (
    PhaseUpsampling,
    ShortTranslationHead,
    with_faster_layers,
    without_training_parts,
)
from semia.training.published.generator import Generator, TranslationHead


def test_four_convolutions_are_one_transposed() -> None:
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1)
    x = torch.randn(2, 6, 7, 9)
    with torch.no_grad():
        expected = nn.functional.leaky_relu(transposed(x), 0.2)
        assert torch.allclose(PhaseUpsampling(transposed)(x), expected, atol=1e-5)


def test_a_short_head_is_the_whole_head() -> None:
    torch.manual_seed(0)
    generator = Generator(width=8, depth=1)
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias)
    head = without_training_parts(generator).gamma_heads[0]
    assert isinstance(head, TranslationHead)
    x = torch.randn(2, 16, 7, 9)
    with torch.no_grad():
        assert torch.allclose(ShortTranslationHead(head)(x), head(x), atol=1e-5)


def test_a_generator_keeps_its_output() -> None:
    torch.manual_seed(0)
    generator = Generator(width=8, depth=2, ratio_limit=4.0).eval()
    image, source, target = torch.rand(3, 1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        expected = generator(image, source, target).image
        folded = with_faster_layers(without_training_parts(generator))
        actual = folded(image, source, target).image
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in folded.modules())
    assert (actual - expected).abs().max() < 1e-4 * (expected.max() - expected.min())

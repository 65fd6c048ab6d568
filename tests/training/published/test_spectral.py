from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from semia.training.published.layers import SpectralNorm, spectral_norm

LAYERS: dict[str, Callable[[], nn.Conv2d | nn.ConvTranspose2d]] = {
    "1x1": lambda: nn.Conv2d(8, 4, 1),
    "3x3": lambda: nn.Conv2d(8, 6, 3, bias=False),
    "4x4 transposed": lambda: nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1),
}


def both(kind: str, memory_format: torch.memory_format) -> tuple[nn.Module, nn.Module]:
    """The same layer under our spectral norm and under torch's own."""
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    ours, theirs = spectral_norm(deepcopy(layer)), parametrizations.spectral_norm(deepcopy(layer))
    theirs.load_state_dict(ours.state_dict())
    ours.to(memory_format=memory_format)  # type: ignore[call-overload]
    return ours, theirs


def weight_of(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def gradients(layer: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_torchs_own_spectral_norm(kind: str, memory_format: torch.memory_format) -> None:
    ours, theirs = both(kind, memory_format)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(1, 8, 12, 10)
    for _ in range(3):  # each training pass does one power iteration
        outputs = [layer(x) for layer in (ours, theirs)]
        assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
        for layer, output in zip((ours, theirs), outputs, strict=True):
            layer.zero_grad()
            output.square().sum().backward()
        for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
            assert torch.allclose(mine, other, rtol=1e-3, atol=1e-5)
        for name, value in theirs.state_dict().items():
            assert torch.allclose(ours.state_dict()[name], value, atol=1e-5)


def test_inference_leaves_the_vectors_alone() -> None:
    ours, theirs = both("3x3", torch.channels_last)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    assert torch.allclose(weight_of(ours.eval()), weight_of(theirs.eval()), atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_the_largest_singular_value_becomes_one() -> None:
    layer = spectral_norm(nn.Conv2d(8, 16, 3))
    for _ in range(30):
        weight = weight_of(layer)
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-3)


def test_mixed_precision_does_not_touch_the_norm() -> None:
    layer = spectral_norm(nn.Conv2d(8, 16, 3))
    with torch.autocast("cpu", torch.bfloat16):
        weight = weight_of(layer)
    assert weight.dtype == torch.float32


def test_a_weight_of_zeros_leaves_the_vectors_finite() -> None:
    layer = spectral_norm(nn.Conv2d(4, 4, 1))
    with torch.no_grad():
        next(parameter for parameter in layer.parameters() if parameter.ndim == 4).zero_()
    weight_of(layer)
    assert all(torch.isfinite(value).all() for value in layer.state_dict().values())


@pytest.mark.parametrize("kind", LAYERS)
def test_it_begins_again_with_another_weight(kind: str) -> None:
    layer = spectral_norm(LAYERS[kind]())
    weight = torch.randn_like(weight_of(layer))
    layer.get_parameter("parametrizations.weight.original").data.copy_(weight)
    normalization = layer.get_submodule("parametrizations.weight.0")
    assert isinstance(normalization, SpectralNorm)
    normalization.restart(weight)
    normalized = weight_of(layer.eval()).detach()
    matrix = normalized.transpose(0, 1) if kind.endswith("transposed") else normalized
    assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, rel=1e-2)

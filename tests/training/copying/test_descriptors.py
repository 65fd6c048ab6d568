import copy

import pytest
import torch
from torch import Tensor

from semia.training.copying.descriptors import FIXED_POINT, LARGEST, UNIT, Window, WindowDescriptor
from semia.training.copying.levels import APPEARANCE, CONTEXTS

WINDOWS = (Window(1), Window(5), Window(5, 2, 0.8), Window(5, 4, 0.6))


def noise(*shape: int, below: int = 256, seed: int = 0) -> Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return noise(2, 3, 30, 40)


@pytest.fixture(scope="module")
def descriptor(pictures: Tensor) -> WindowDescriptor:
    descriptor = WindowDescriptor(3, WINDOWS, 12)
    descriptor.fit(pictures, 255.0)
    return descriptor


def test_weights_and_descriptors_are_whole_numbers(descriptor: WindowDescriptor, pictures: Tensor) -> None:
    for numbers in (*descriptor.weights, descriptor.offset, descriptor(pictures)):
        assert torch.equal(numbers, numbers.round())
    assert descriptor(pictures).shape == (2, 30, 40, 12)
    assert descriptor(pictures).std() > 5


@pytest.mark.parametrize("windows", [APPEARANCE, *CONTEXTS, WINDOWS], ids=str)
def test_sums_are_exact(windows: tuple[Window, ...]) -> None:
    """In float32, in any order: the largest values that there are, and double precision agrees."""
    channels = 3
    extremes = noise(1, channels, 48, 40, below=2) * 255
    descriptor = WindowDescriptor(channels, windows, 14)
    descriptor.fit(extremes, 255.0)
    expected = copy.deepcopy(descriptor).double()(extremes.double())
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        try:
            described = descriptor(extremes)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(described.double(), expected)
    total = sum(float(weights.abs().sum((1, 2, 3)).max()) for weights in descriptor.weights) * 255
    assert total + float(descriptor.offset.abs().max()) < 2**24


def test_descriptors_fit_into_bytes(descriptor: WindowDescriptor) -> None:
    strong = copy.deepcopy(descriptor)
    strong.offset.copy_(torch.full((12,), 1e6))
    assert (strong(noise(1, 3, 9, 9)) == LARGEST).all()
    strong.offset.neg_()
    assert (strong(noise(1, 3, 9, 9)) == -LARGEST).all()


def test_equal_windows_are_described_equally(descriptor: WindowDescriptor) -> None:
    tile = noise(1, 3, 10, 10, seed=3)
    described = descriptor(tile.repeat(1, 1, 6, 6))
    assert torch.equal(described[:, 20:30, 20:30], described[:, 30:40, 20:30])
    assert not torch.equal(described[:, 20:30, 20:30], described[:, 21:31, 20:30])


def test_distances_are_those_of_windows() -> None:
    """With all components kept, in steps of UNIT, but for rounding."""
    pictures = noise(1, 1, 40, 40)
    window = Window(3)
    descriptor = WindowDescriptor(1, (window,), 9)
    descriptor.fit(pictures, 255.0)
    described = descriptor(pictures)[0].permute(2, 0, 1)
    taps = torch.nn.functional.unfold(pictures / 255, 3)[0] * window.weights()[:, None]
    inner = described[:, 1:-1, 1:-1].flatten(1)
    expected = (taps[:, :200] - taps[:, 200:400]).square().sum(0).sqrt() * UNIT
    actual = (inner[:, :200] - inner[:, 200:400]).square().sum(0).sqrt()
    assert (actual - expected).abs().max() < 3  # nine numbers, rounded


def test_fitting_again_gives_the_same_bits(descriptor: WindowDescriptor, pictures: Tensor) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = WindowDescriptor(3, WINDOWS, 12)
    again.fit(pictures, 255.0)
    for name, numbers in again.state_dict().items():
        assert torch.equal(numbers, descriptor.state_dict()[name]), name
    assert torch.equal(torch.random.get_rng_state(), before), "a caller's random numbers are left alone"


def test_flat_pictures_are_described_by_nothing() -> None:
    descriptor = WindowDescriptor(2, (Window(3),), 6)
    descriptor.fit(torch.full((1, 2, 8, 8), 7.0), 255.0)
    assert not descriptor(torch.full((1, 2, 8, 8), 7.0)).any()


def test_fewer_components_than_asked_for_leave_the_rest_zero() -> None:
    descriptor = WindowDescriptor(1, (Window(1),), 5)
    descriptor.fit(noise(1, 1, 8, 8), 255.0)
    described = descriptor(noise(1, 1, 8, 8))
    assert described[..., 0].any()
    assert not described[..., 1:].any()


def test_codes_tell_channels_apart() -> None:
    """A pixel of one class has just the class's code, whatever is around it."""
    classes = torch.randint(0, 3, (8, 8), generator=torch.Generator().manual_seed(0))
    shares = torch.nn.functional.one_hot(classes).permute(2, 0, 1)[None] * 256.0
    descriptor = WindowDescriptor(3, (Window(5), Window(5, 2)), 4)
    descriptor.fit(shares, 256.0)
    codes = torch.tensor([[-100.0, 20.0], [7.0, 90.0], [0.0, -50.0]])
    described = descriptor(shares, codes.T / 256)[0]
    assert torch.equal(described[..., 4:], codes[classes])
    assert torch.equal(described[..., :4], descriptor(shares)[0])


@pytest.mark.parametrize("side", [1, 3, 7])
def test_a_windows_weights_add_up_to_its_weight(side: int) -> None:
    weights = Window(side, weight=1.5).weights()
    assert weights.square().sum().item() == pytest.approx(1.5**2)
    assert weights.argmax() == side * side // 2


def test_far_taps_see_means_of_squares() -> None:
    picture = noise(1, 1, 12, 12)
    averaged = Window(3, 4).averaged(picture)
    assert averaged.shape == picture.shape
    assert averaged[0, 0, 6, 6] == torch.floor(picture[0, 0, 4:8, 4:8].mean() + 0.5)
    assert Window(5, 4).reach == 8


def test_weights_are_in_fixed_point() -> None:
    """A window of one pixel with one component is that pixel, in steps of a descriptor."""
    pictures = noise(1, 1, 8, 8)
    descriptor = WindowDescriptor(1, (Window(1),), 1)
    descriptor.fit(pictures, 255.0)
    assert descriptor.weights[0].abs().item() == pytest.approx(UNIT / 255 * FIXED_POINT, abs=1)

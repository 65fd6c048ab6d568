import pytest
import torch
from torch import Tensor

from semia.training.copying.prior import class_colors, class_light, explained_variance


@pytest.fixture(scope="module")
def shares() -> Tensor:
    """A sky above, a striped class below; a third class is absent."""
    shares = torch.zeros(3, 80, 120)
    shares[0, :40] = 1
    shares[1, 40:] = 1
    return shares


@pytest.fixture(scope="module")
def image() -> Tensor:
    image = torch.zeros(3, 80, 120)
    image[:, :40] = torch.linspace(0.2, 0.9, 120)
    image[:, 40:] = (torch.arange(120) % 6 < 3).float()
    return image


def test_low_frequencies_explain_a_gradient_and_no_stripes(image: Tensor, shares: Tensor) -> None:
    sky, stripes, absent = explained_variance(image, shares, class_colors(image, shares)).tolist()
    assert sky > 0.9
    assert stripes < 0.15
    assert absent == 0


def test_a_class_has_its_own_color_where_it_is(image: Tensor, shares: Tensor) -> None:
    sky, stripes, _ = class_colors(image, shares)
    assert (sky[:, :40] - image[:, :40])[:, 5:-5, 10:-10].abs().max() < 0.05
    assert (stripes[:, 50:] - 0.5)[:, :, 10:-10].abs().max() < 0.05


def test_a_class_has_a_color_everywhere_that_is_no_mixture_with_others(image: Tensor, shares: Tensor) -> None:
    red_above = torch.zeros(3, 80, 120)
    red_above[0, :40] = 1
    red_above[2, 40:] = 1
    red, blue, absent = class_colors(red_above, shares)
    assert torch.allclose(red, torch.tensor([1.0, 0, 0])[:, None, None].expand_as(red), atol=0.01)
    assert torch.allclose(blue, torch.tensor([0, 0, 1.0])[:, None, None].expand_as(blue), atol=0.01)
    assert absent.isfinite().all()


def test_the_gradient_goes_on_below_the_sky(image: Tensor, shares: Tensor) -> None:
    sky = class_colors(image, shares)[0]
    below = sky[0, 60]
    assert below[20] + 0.2 < below[60] < below[100] - 0.2


def test_a_class_of_one_pixel_is_explained_without_dividing_by_zero(image: Tensor) -> None:
    shares = torch.zeros(1, 80, 120)
    shares[0, 3, 4] = 1
    assert explained_variance(image, shares, class_colors(image, shares)).isfinite().all()


@pytest.mark.parametrize("halvings", [0, 2])
def test_a_skys_gradient_is_light_and_goes_on_below(image: Tensor, shares: Tensor, halvings: int) -> None:
    sky, stripes, absent = class_light(image, shares, halvings)
    assert sky.shape == (3, 80 >> halvings, 120 >> halvings)
    assert torch.equal(sky, sky.round())
    gradient = torch.linspace(0.2, 0.9, sky.shape[2]) * 255 - 127.5
    middle = slice(sky.shape[2] // 5, -sky.shape[2] // 5)
    assert (sky - gradient)[:, :, middle].abs().max() < 20
    assert not stripes.any()
    assert not absent.any()


def test_no_color_leaves_its_range_without_its_light(image: Tensor, shares: Tensor) -> None:
    image = image.clone()
    image[:, 20, 60], image[:, 21, 100] = 1, 0
    rest = image * 255 - class_light(image, shares, 2)[0].repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert rest[:, :40].min() >= 0
    assert rest[:, :40].max() <= 255


def test_a_dark_pixel_leaves_the_light_its_gradient(image: Tensor, shares: Tensor) -> None:
    """As of a leaf's tip that was labelled sky: the light is as much darker everywhere as the pixel needs."""
    speck = image.clone()
    speck[:, 21, 100] = 0
    light, without = class_light(speck, shares, 2)[0], class_light(image, shares, 2)[0]
    rest = speck * 255 - light.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert rest[:, 21, 100].min() == 0
    assert rest[:, :40].max() <= 255
    assert light.amax() - light.amin() > 0.8 * (without.amax() - without.amin())
    assert without.mean() - light.mean() > 50

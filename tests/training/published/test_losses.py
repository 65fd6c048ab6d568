import pytest
import torch

from semia.training.published import losses
from semia.training.published.generator import Translation
from semia.training.published.networks import Judgement


def judgement(score: float, feature: float = 0.0) -> Judgement:
    return Judgement([torch.full((1, 1, 4, 4), score), torch.full((1, 1, 2, 2), score)], [torch.full((1, 8), feature)])


@pytest.mark.parametrize(("score", "real", "fake"), [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.5, 0.25, 0.25)])
def test_least_squares(score: float, real: float, fake: float) -> None:
    assert losses.least_squares_real(judgement(score)).item() == pytest.approx(real)
    assert losses.least_squares_fake(judgement(score)).item() == pytest.approx(fake)


def test_feature_matching_teaches_the_fake_alone() -> None:
    fake = torch.zeros(1, 8, requires_grad=True)
    real = torch.ones(1, 8, requires_grad=True)
    loss = losses.feature_matching(Judgement([], [fake]), Judgement([], [real]))
    torch.autograd.backward(loss)
    assert loss.item() == 1
    assert fake.grad is not None
    assert real.grad is None


def test_gradients_feel_a_weave_and_no_other_color() -> None:
    smooth = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    weave = torch.ones(16)
    weave[1::2] = -1
    assert losses.gradient_difference(smooth + 0.3, smooth).item() == pytest.approx(0, abs=1e-6)
    assert losses.gradient_difference(smooth + 0.1 * weave, smooth).item() == pytest.approx(0.2)
    checkered = smooth + 0.1 * weave * weave[:, None]
    assert losses.gradient_difference(checkered, smooth).item() == pytest.approx(0.4)


def test_fixed_point_is_zero_where_nothing_is_translated() -> None:
    nothing = Translation([torch.ones(1, 2, 3, 3)], [torch.zeros(1, 2, 3, 3)])
    something = Translation([torch.full((1, 2, 3, 3), 1.5)], [torch.full((1, 2, 3, 3), -0.25)])
    assert losses.fixed_point(nothing).item() == 0
    assert losses.fixed_point(something).item() == pytest.approx(0.75)


def test_fixed_point_counts_every_level() -> None:
    level = torch.full((1, 2, 3, 3), 1.5)
    nothing = [torch.zeros(1, 2, 3, 3)] * 3
    assert losses.fixed_point(Translation([level] * 3, nothing)).item() == pytest.approx(1.5)


def test_semantic_alignment_reaches_the_output() -> None:
    predicted = torch.zeros(1, 3, 2, 2, requires_grad=True)
    torch.autograd.backward(losses.semantic_alignment(predicted, torch.ones(1, 3, 2, 2)))
    assert predicted.grad is not None
    assert (predicted.grad < 0).all()

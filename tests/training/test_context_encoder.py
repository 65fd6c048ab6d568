import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.context_encoder import DESCRIPTOR_STEPS, ContextEncoder, plain_contexts

CLASSES = 3
REACH = 20  # tokens: further away than this, no window sees


def shares_of(ids: Tensor) -> Tensor:
    return F.avg_pool2d(F.one_hot(ids, CLASSES).permute(2, 0, 1)[None].float(), 4)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    ids = torch.zeros(256, 256, dtype=torch.int64)
    ids[132:] = 1
    ids[100:142, 110:139] = 2
    return ids


@pytest.fixture(scope="module")
def encoder(ids: Tensor) -> ContextEncoder:
    encoder = ContextEncoder(CLASSES, 16)
    encoder.project(shares_of(ids))
    return encoder.eval().requires_grad_(False)


def test_it_is_translation_equivariant_away_from_the_border(encoder: ContextEncoder, ids: Tensor) -> None:
    here, there = encoder(shares_of(ids)), encoder(shares_of(ids.roll((8, 12), (0, 1))))
    inner = slice(REACH + 3, 64 - REACH - 3)
    assert torch.equal(there.roll((-2, -3), (2, 3))[..., inner, inner], here[..., inner, inner])
    assert here[..., inner, inner].std() > 0.01


def test_its_arithmetic_is_exact(encoder: ContextEncoder, ids: Tensor) -> None:
    found = encoder(shares_of(ids))
    precise = copy.deepcopy(encoder).double()(shares_of(ids).double())
    assert torch.equal(found.double(), precise)
    assert torch.equal(found * DESCRIPTOR_STEPS, (found * DESCRIPTOR_STEPS).round())


def test_rounding_changes_little(encoder: ContextEncoder, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = encoder(shares_of(ids))
    monkeypatch.setattr("training.context_encoder.on_grid", lambda x, _steps: x)
    assert 0 < (rounded - encoder(shares_of(ids))).square().sum(1).max() < 1e-3


def test_the_same_layout_gives_the_same_weights_whatever_was_drawn_before(encoder: ContextEncoder, ids: Tensor) -> None:
    torch.manual_seed(1)
    drawn = torch.rand(1)
    again = ContextEncoder(CLASSES, 16)
    torch.manual_seed(1)
    again.project(shares_of(ids))
    assert torch.equal(torch.rand(1), drawn), "the caller's random numbers go on as if nothing had been drawn"
    state = encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_the_projection_keeps_the_distances_between_windows(ids: Tensor) -> None:
    encoder = ContextEncoder(CLASSES, 64).eval().requires_grad_(False)
    encoder.project(shares_of(ids))
    tokens = torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))[:200]
    plain = plain_contexts(shares_of(ids))[tokens]
    projected = encoder(shares_of(ids))[0].flatten(1).T[tokens]
    expected, found = (torch.cdist(rows, rows).square() for rows in (plain, projected))
    assert (found - expected).abs().max() < 0.05 * expected.max()

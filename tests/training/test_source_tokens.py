import pytest
import torch

from training.copying_generator import CopyingGenerator
from training.source_tokens import GUARD, VARIANTS, SourceTokens, cells_of, lay_out, token_shares

HEIGHT, WIDTH, TOKEN = 96, 128, 4


@pytest.fixture(scope="module")
def levels(copying: CopyingGenerator) -> list[SourceTokens]:
    with torch.no_grad():
        return copying.source_tokens()


@pytest.fixture(scope="module")
def fine(levels: list[SourceTokens]) -> SourceTokens:
    return levels[0]


def number(source: SourceTokens, row: int, column: int) -> int:
    """Of a token of the first variant, the photograph as it is."""
    return (row + GUARD) * source.stride + column + GUARD


def test_the_first_variant_is_the_photograph(fine: SourceTokens, copying: CopyingGenerator) -> None:
    token = number(fine, 2, 5)
    assert fine.centres[token].tolist() == [2 * TOKEN + 1.5, 5 * TOKEN + 1.5]
    assert fine.steps[token].tolist() == [1, 1]
    assert fine.cost[token] == 0
    image = (copying.image[0] + 1) / 2
    colour = image[:, 8:10, 20:22].mean((1, 2))  # its upper left quarter
    assert torch.allclose(fine.appearance[token].view(3, 4)[:, 0], colour, atol=1 / 256)


def test_one_step_down_or_right_moves_by_a_token(levels: list[SourceTokens]) -> None:
    for source, side in zip(levels, (TOKEN, 2 * TOKEN), strict=True):
        allowed = set(source.allowed.tolist())
        for step, axis in ((source.stride, 0), (1, 1)):
            pairs = torch.tensor([(n, n + step) for n in allowed if n + step in allowed])
            moved = source.centres[pairs[:, 1]] - source.centres[pairs[:, 0]]
            assert len(pairs) > 0.8 * len(allowed)
            assert torch.allclose(moved[:, axis], source.steps[pairs[:, 0], axis] * side, atol=1e-3)
            assert (moved[:, 1 - axis].abs() < 1e-3).all()


def test_a_coarse_token_lies_where_its_four_children_do(levels: list[SourceTokens]) -> None:
    fine, coarse = levels
    first = coarse.child[coarse.allowed]
    children = torch.stack([first, first + 1, first + fine.stride, first + fine.stride + 1])
    assert torch.allclose(fine.centres[children].mean(0), coarse.centres[coarse.allowed], atol=1e-3)
    assert torch.allclose(fine.appearance[children].mean(0), coarse.appearance[coarse.allowed], atol=1 / 256)


def test_only_tokens_on_the_photograph_are_allowed(levels: list[SourceTokens]) -> None:
    for source in levels:
        y, x = source.centres[source.allowed].unbind(1)
        assert ((y > -0.5) & (y < HEIGHT - 0.5) & (x > -0.5) & (x < WIDTH - 0.5)).all()
        forbidden = torch.ones(len(source.cost), dtype=torch.bool)
        forbidden[source.allowed] = False
        assert (source.cost[forbidden] > 10).all()
        assert forbidden[: GUARD * source.stride].all()


def test_mirroring_and_scaling_say_where_pixels_come_from() -> None:
    image = torch.arange(WIDTH).float().expand(3, HEIGHT, WIDTH) / WIDTH  # brightness tells the column
    one_hot = torch.ones(1, HEIGHT, WIDTH)
    for variant in VARIANTS:
        grid = lay_out(variant, image, one_hot, TOKEN)
        seen = grid.appearance.view(3, 4, *grid.appearance.shape[1:]).mean((0, 1, 2)) * WIDTH
        inside = (grid.columns > 8) & (grid.columns < WIDTH - 8)
        assert torch.allclose(seen[inside], grid.columns[inside], atol=0.2)
        assert (grid.columns[0] > grid.columns[-1]) == variant.mirrored


def test_shares_count_cells() -> None:
    ids = torch.zeros(16, 24, dtype=torch.int64)
    ids[:, 10:] = 1  # tokens of 8 pixels: a border a quarter into the second one
    cells = cells_of(ids, 8)
    assert cells.shape == (8, 12)
    shares = token_shares(torch.stack([cells == 0, cells == 1]).float()[None])
    assert shares[0, :, 0].T.tolist() == [[1, 0], [0.25, 0.75], [0, 1]]

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.copying_generator import CopyingGenerator
from training.layout_matching import match
from training.source_tokens import GUARD, SourceTokens

Field = Callable[..., NDArray[np.uint8]]
TOKEN, WIDTH = 4, 128


@pytest.fixture(scope="module")
def sources(copying: CopyingGenerator) -> list[SourceTokens]:
    with torch.no_grad():
        return copying.source_tokens()


@pytest.fixture(scope="module")
def describe(copying: CopyingGenerator) -> Callable[..., Tensor]:
    def described(*layouts: NDArray[np.uint8]) -> Tensor:
        with torch.no_grad():
            return copying.describe(torch.from_numpy(np.stack(layouts)).long())

    return described


def home(source: SourceTokens, rows: slice, columns: slice) -> Tensor:
    """Numbers of the photograph's own tokens in an area."""
    y, x = torch.arange(24)[rows, None] + GUARD, torch.arange(32)[columns] + GUARD
    return y * source.stride + x


def test_the_photographs_layout_finds_itself(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    chosen = match(describe(field((40, 24))), sources, TOKEN, WIDTH)
    assert torch.equal(chosen[0], home(sources[0], slice(None), slice(None)))


def test_a_moved_object_is_found_whole(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    chosen = match(describe(field((40, 72))), sources, TOKEN, WIDTH)  # moved by twelve tokens
    assert torch.equal(chosen[0, 10:18, 18:24], home(sources[0], slice(10, 18), slice(6, 12)))


def test_what_is_larger_is_copied_enlarged_not_pieced_together(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    enlarged = field((40, 24)).repeat(2, 0).repeat(2, 1)[40:136, 20:148]
    steps = sources[0].steps[match(describe(enlarged), sources, TOKEN, WIDTH)[0]]
    box = torch.from_numpy(enlarged[2::4, 2::4] == 2)
    assert (steps[box] == 0.5).float().mean() > 0.8


def test_what_is_as_large_is_copied_as_it_is(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    layout = field((44, 76))
    steps = sources[0].steps[match(describe(layout), sources, TOKEN, WIDTH)[0]]
    assert (steps[torch.from_numpy(layout[2::4, 2::4] == 2)].abs() == 1).all()


def test_nothing_outside_the_photograph_is_ever_chosen(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (96, 128), dtype=np.uint8)
    cut_off = field((0, 0), (64, 104), (0, 104), (64, 0))  # boxes in all corners
    chosen = match(describe(noise, cut_off, field((30, 60))), sources, TOKEN, WIDTH)
    assert torch.isin(chosen, sources[0].allowed).all()


def test_a_batch_is_matched_as_its_layouts_are(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    layouts = [field((44, 77)), field((50, 3), (20, 60))]
    together = match(describe(*layouts), sources, TOKEN, WIDTH)
    alone = [match(describe(layout), sources, TOKEN, WIDTH) for layout in layouts]
    assert torch.equal(together, torch.cat(alone))


def test_choices_do_not_depend_on_how_sums_are_rounded(
    describe: Callable[..., Tensor], sources: list[SourceTokens], field: Field
) -> None:
    generator = torch.Generator().manual_seed(0)
    target = describe(field((45, 73), (22, 9)))
    order = torch.randperm(target.shape[1], generator=generator)
    colours = torch.randperm(12, generator=generator)
    mixed = [  # the same distances, added in another order
        dataclasses.replace(source, descriptors=source.descriptors[:, order], appearance=source.appearance[:, colours])
        for source in sources
    ]
    assert torch.equal(match(target[:, order], mixed, TOKEN, WIDTH), match(target, sources, TOKEN, WIDTH))

"""The copying generator: label context and appearance are matched together, coarse to fine.

In the manner of image analogies (Hertzmann et al. 2001) and of patch-based synthesis by expectation and
maximization (Wexler et al. 2007): in turn, every pixel chooses which place of the photograph to copy, and the picture
is averaged from the patches around what was chosen. Nothing is learnt: descriptors are principal components of the
one photograph.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from semia.training.base import OnStage, SceneGenerator
from semia.training.copying.descriptors import LARGEST, UNIT, rounded
from semia.training.copying.doubt import is_doubtful
from semia.training.copying.grid import Grid
from semia.training.copying.levels import (
    DOUBT_COST,
    FULL_COLOR,
    FULL_SHARE,
    JUMP,
    MARGIN_COST,
    OUTSIDE_COST,
    REACH,
    SHOWN_SHARE,
    SIMILAR_ORDER,
    SPREAD,
    VARIANT_COST,
    CopiedColors,
    LevelDescriptors,
    SearchTables,
    Sizes,
    anchors_of,
    chessboard,
    colors_of,
    cost_digits,
    cost_rows,
    reduced,
)
from semia.training.copying.outline import outline_softness
from semia.training.copying.painting import SearchedSize, paint
from semia.training.copying.prior import class_colors, class_light, explained_variance
from semia.training.copying.settings import CopyingSettings
from semia.training.copying.similar import SIMILAR, similar_places
from semia.training.copying.variants import VARIANTS, shows_photograph, warp, warp_by_class
from semia.training.copying.voting import Ballot
from semia.training.machine import one_thread
from semia.training.tensors import SceneTensors, pad

PRIOR_WEIGHT = 2.0
"""Of the squared distance to a class's prior color, where low frequencies explain the class wholly."""

PLACE_WEIGHT = 0.05
"""Of the squared distance over the canvas, in lengths of its longer side."""


class CopyingGenerator(SceneGenerator):
    """Copies the photograph, pixel by pixel, into other layouts."""

    pictures: Tensor
    class_ids: Tensor
    shown: Tensor
    doubtful: Tensor
    prior: Tensor
    light: Tensor
    source_prior: Tensor
    place: Tensor
    similar: Tensor
    softness: Tensor
    _image: Tensor
    _ids: Tensor

    def __init__(self, settings: CopyingSettings, scene: SceneTensors) -> None:  # noqa: ARG002
        """Build a generator for a scene; it copies nothing before `prepare`, or before a state is loaded.

        Args:
            settings: of the method.
            scene: the photograph; its canvas decides the sizes.
        """
        super().__init__()
        self.classes = len(scene.palette)
        self.canvas = scene.canvas
        self.sizes = Sizes.of_canvas(*scene.canvas)
        height, width = self.sizes.height, self.sizes.width
        searched = (height >> self.sizes.finest, width >> self.sizes.finest)
        count = len(VARIANTS)
        self.descriptors = torch.nn.ModuleList(
            LevelDescriptors(self.classes, order) for order in range(len(self.sizes.searched))
        )
        for name, shape, dtype in (
            ("pictures", (count, 3, height, width), torch.uint8),
            ("class_ids", (count, height, width), torch.uint8),
            ("shown", (count, height, width), torch.bool),
            ("doubtful", (count, height, width), torch.bool),
            ("prior", (self.classes, 3, *searched), torch.int8),
            ("light", (self.classes, 3, *searched), torch.int8),
            ("source_prior", (count, 3, *searched), torch.int8),
            ("place", (count, 2, *searched), torch.int8),
            ("similar", (count, SIMILAR, *self._similar_size()), torch.int32),
            ("softness", (1,), torch.uint8),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        padded = pad(scene.image, 2**self.sizes.coarsest), pad(scene.class_ids, 2**self.sizes.coarsest)
        self.register_buffer("_image", padded[0], persistent=False)
        self.register_buffer("_ids", padded[1], persistent=False)

    @torch.no_grad()
    def prepare(self, on_stage: OnStage = lambda _name, _share_done: None) -> None:
        """Work out all that is stored; needs seconds.

        Args:
            on_stage: told the stages; what it raises ends the preparation and leaves the generator unprepared.
        """
        device = self.pictures.device
        self.cpu()  # small operations, which are faster there, and the same on every machine
        try:
            with one_thread():
                self._prepare(on_stage)
        except BaseException:
            for stored in self.state_dict().values():
                stored.zero_()
            raise
        finally:
            self.to(device)

    def _prepare(self, on_stage: OnStage) -> None:
        on_stage("variants", 0.0)
        image = ((self._image[0] + 1) * 127.5).round()
        ids = self._ids[0]
        height, width = ids.shape
        shares = F.one_hot(ids, self.classes).permute(2, 0, 1).float()
        varied_ids = torch.stack([warp(ids[None].float(), variant, "nearest")[0] for variant in VARIANTS])
        varied = zip(varied_ids, VARIANTS, strict=True)
        pictures = torch.stack([warp_by_class(image, shares, each, variant) for each, variant in varied])
        shown = torch.stack([shows_photograph(height, width, variant, self.canvas) for variant in VARIANTS])
        doubted = is_doubtful(image, ids, self.classes)[None].float()
        doubtful = torch.stack([warp(doubted, variant, "nearest")[0] for variant in VARIANTS])
        place = torch.stack([warp(_places(height, width), variant) for variant in VARIANTS])
        on_stage("prior colors", 0.2)
        prior = _prior(image / FULL_COLOR, shares)
        own_prior = (prior * shares[:, None]).sum(0)
        source_prior = torch.stack([warp(own_prior, variant) for variant in VARIANTS])
        finest = self.sizes.finest
        self.pictures.copy_(rounded(pictures).clamp(0, 255))
        self.class_ids.copy_(varied_ids)
        self.shown.copy_(shown)
        self.doubtful.copy_(doubtful)
        self.prior.copy_(reduced(prior, finest))
        self.light.copy_(class_light(image / FULL_COLOR, shares, finest))
        self.source_prior.copy_(reduced(source_prior, finest))
        self.place.copy_(reduced(place, finest))
        self.softness.fill_(outline_softness(image, ids))
        for order, halvings in enumerate(self.sizes.searched):
            on_stage("descriptors", 0.3 + 0.5 * order / len(self.sizes.searched))
            level = cast(LevelDescriptors, self.descriptors[order])
            level.context.fit(self._source_shares(halvings), FULL_SHARE)
            level.appearance.fit(reduced(self.pictures, halvings), FULL_COLOR)
        if self.similar.numel():
            on_stage("similar places", 0.8)
            halvings = self.sizes.searched[SIMILAR_ORDER]
            tables = self._search_tables(SIMILAR_ORDER, halvings)
            self.similar.copy_(similar_places(cost_rows(tables.rows), tables.grid))

    def tables(self) -> list[CopiedColors]:
        """All that may be copied at each size, coarse to fine; the last is of the whole canvas.

        All but the last are `SearchTables`; so is the last where the whole canvas is searched.
        """
        tables: list[CopiedColors] = [
            self._search_tables(order, halvings) for order, halvings in enumerate(self.sizes.searched)
        ]
        return [*tables, self._whole_colors()] if self.sizes.finest else tables

    def ready(self, tables: list[CopiedColors]) -> tuple[list[SearchedSize], Ballot | None]:
        """What `paint` takes, of what `tables` gives."""
        sizes = [
            SearchedSize.at(order, level, cast(LevelDescriptors, self.descriptors[order]))
            for order, level in enumerate(tables)
            if isinstance(level, SearchTables)
        ]
        return sizes, None if len(sizes) == len(tables) else Ballot.of(tables[-1])

    def synthesize(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """See `SceneGenerator.synthesize`; the scene is the one it was built for."""
        return self.synthesizer(scene)(target_ids)

    def synthesizer(self, scene: SceneTensors) -> Callable[[Tensor], Tensor]:  # noqa: ARG002 - it has its own copy
        """See `SceneGenerator.synthesizer`."""
        sizes, whole = self.ready(self.tables())

        def synthesize(target_ids: Tensor) -> Tensor:
            height, width = target_ids.shape[-2:]
            levels = paint(pad(target_ids, 2**self.sizes.coarsest), self.classes, sizes, whole, self.softness)
            return levels[..., :height, :width] / 127.5 - 1

        return synthesize

    def _whole_colors(self) -> CopiedColors:
        """Of the whole canvas; what is copied there was chosen at half its size or less, so squares go together."""
        side, factor = SPREAD, 2**self.sizes.finest
        light = self.light.float().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        colors, lit = self._unlit(self.pictures, self.class_ids, light), self._lit_classes()
        grid = Grid(len(VARIANTS), self.sizes.height // side, self.sizes.width // side, SPREAD // side)
        return CopiedColors(
            grid=grid,
            side=side,
            colors=colors_of(grid, side, colors, self.class_ids),
            anchor_colors=_colors_at(self._anchors(self.class_ids[0]), colors),
            light=light[list(lit)].to(torch.int8),
            lit=lit,
        )

    def _lit_classes(self) -> tuple[int, ...]:
        return tuple(self.light.flatten(1).any(1).nonzero().flatten().tolist())

    def _unlit(self, pictures: Tensor, class_ids: Tensor, light: Tensor) -> Tensor:
        """The variants' pictures ``[V, 3, h, w]`` without the light ``[K, 3, h, w]`` that fell on what they show."""
        unlit = pictures.float()
        for class_id in self._lit_classes():
            fallen = torch.stack([warp(light[class_id], variant) for variant in VARIANTS])
            unlit = torch.where(class_ids[:, None] == class_id, unlit - rounded(fallen), unlit)
        return unlit.clamp(0, 255)

    def _similar_size(self) -> tuple[int, int]:
        """Height and width of the size where similar places are candidates; 0 if the canvas is too small for it."""
        if len(self.sizes.searched) <= SIMILAR_ORDER:
            return 0, 0
        halvings = self.sizes.searched[SIMILAR_ORDER]
        return self.sizes.height >> halvings, self.sizes.width >> halvings

    def _search_tables(self, order: int, halvings: int) -> SearchTables:
        height, width = self.sizes.height >> halvings, self.sizes.width >> halvings
        grid = Grid(len(VARIANTS), height, width, margin=(JUMP if order else 0) + REACH)
        level = cast(LevelDescriptors, self.descriptors[order])
        pictures, shares = reduced(self.pictures, halvings), self._source_shares(halvings)
        times = halvings - self.sizes.finest
        compared = level.prior_and_place_size > 0
        prior_and_place = reduced(torch.cat([self.source_prior, self.place], dim=1), times) if compared else None
        with torch.no_grad():
            fixed = level.describe_layout(shares, prior_and_place)
            described = torch.cat([fixed, level.appearance(pictures)], dim=3)
        shown = F.avg_pool2d(self.shown[:, None].float(), 2**halvings) if halvings else self.shown[:, None].float()
        costs = (shown < SHOWN_SHARE).float() * OUTSIDE_COST
        costs[1:] += 1
        # Not at the coarsest size, whose pixels show too much at once.
        doubt = rounded(F.avg_pool2d(self.doubtful[:, None].float(), 2**halvings) * (DOUBT_COST if order else 0))
        costs += doubt
        costs = F.pad(costs, (grid.margin,) * 4, value=MARGIN_COST)
        rows = grid.table(described.permute(0, 3, 1, 2))
        halves, merged = chessboard(grid.height, grid.width)
        device = self.pictures.device
        class_ids = shares.argmax(1)
        anchors = self._anchors(class_ids[0])
        light, lit = reduced(self.light, times), self._lit_classes()
        colors = self._unlit(pictures, class_ids, light)
        return SearchTables(
            grid=grid,
            side=1,
            colors=colors_of(grid, 1, colors, class_ids),
            anchor_colors=_colors_at(anchors, colors),
            light=light[list(lit)].to(torch.int8),
            lit=lit,
            anchors=grid.inside()[0].to(device)[anchors],
            rows=torch.cat(
                [cost_digits(rows.square().sum(1) + costs.flatten() * VARIANT_COST), rows.to(torch.int8)], 1
            ),
            similar=grid.table(self.similar).int() if order == SIMILAR_ORDER else None,
            prior=reduced(self.prior, times).to(torch.int8) if compared else None,
            place=reduced(self.place[:1], times)[0].to(torch.int8) if compared else None,
            doubt=(doubt[0].flatten() * VARIANT_COST).int(),
            halves=halves.to(device),
            merged=merged.to(device),
        )

    def _anchors(self, class_ids: Tensor) -> Tensor:
        return anchors_of(class_ids.cpu(), self.classes).to(self.pictures.device)

    def _source_shares(self, halvings: int) -> Tensor:
        """Class shares of the photograph's variants, whole numbers ``[V, K, h, w]`` up to `FULL_SHARE`."""
        # One variant at a time: at full size, and for many classes, all of them would take gigabytes.
        return torch.cat(
            [
                reduced(F.one_hot(ids[None].long(), self.classes).permute(0, 3, 1, 2) * FULL_SHARE, halvings)
                for ids in self.class_ids
            ]
        )


def _prior(image: Tensor, shares: Tensor) -> Tensor:
    """Each class's prior color at every place, in steps of a descriptor, ``[K, 3, H, W]``."""
    colors = class_colors(image, shares)
    weight = explained_variance(image, shares, colors)[:, None, None, None] * math.sqrt(PRIOR_WEIGHT)
    return rounded((colors - 0.5) * weight * UNIT).clamp(-LARGEST, LARGEST)


def _colors_at(pixels: Tensor, pictures: Tensor) -> Tensor:
    """The plain photograph's levels at pixels, which are counted row by row, uint8 ``[..., 3]``."""
    return pictures[0].flatten(1).T[pixels].to(torch.uint8)


def _places(height: int, width: int) -> Tensor:
    """Where every pixel of the canvas is, in steps of a descriptor, ``[2, H, W]``."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rounded(torch.stack([rows, columns]) / max(height, width) * math.sqrt(PLACE_WEIGHT) * UNIT)

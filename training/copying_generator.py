"""The generator that copies: it decides where in the photograph every pixel comes from.

Layout contexts are matched (`layout_matching`), copies are joined (`composition`); classes that run along
the canvas's border, such as sky or grass, stay in place. It is prepared, not trained: the photograph's class
layers (`class_layers`) are completed and the descriptors that are matched (`context_encoder`) are set to it, once.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from training.class_layers import complete_layers
from training.composition import Photograph, compose, photograph_tables
from training.context_encoder import ContextEncoder
from training.copying_settings import CopyingSettings
from training.interface import OnStage, SceneGenerator
from training.layout_matching import match
from training.machine import one_thread
from training.source_tokens import VARIANTS, SourceTokens, cells_of, lay_out, number_tokens, token_shares
from training.square_tables import look_up
from training.stages import stage
from training.tensors import SceneTensors, pad

MOST_TOKENS = 100
"""Tokens along the canvas's longer side: matching costs the same on every canvas."""

SMALLEST_TOKEN = 4
"""Pixels along a token's side."""

UNMOVED_SHARE = 0.3
"""A class that holds this much of the canvas's border is a background: it stays in place."""


DESCRIPTORS_BEGIN = 0.95
"""The share of the preparation's time that is gone when the class layers are completed."""


def token_side(height: int, width: int) -> int:
    """A fine token's side in pixels: the least power of two, from 4, that keeps tokens few enough."""
    side = SMALLEST_TOKEN
    while max(height, width) > MOST_TOKENS * side:
        side *= 2
    return side


class CopyingGenerator(SceneGenerator):
    """Copies the photograph, token by token, into other layouts."""

    layers: Tensor
    image: Tensor
    class_ids: Tensor
    palette: Tensor

    def __init__(self, settings: CopyingSettings, scene: SceneTensors) -> None:
        """Build a generator for a scene; it copies nothing before `prepare`, or before a state is loaded.

        Args:
            settings: its sizes.
            scene: the photograph; its canvas decides the tokens' size.
        """
        super().__init__()
        self.token = token_side(*scene.image.shape[-2:])
        self.multiple = 4 * self.token  # an even number of coarse tokens: they settle in two halves
        image, class_ids = pad(scene.image, self.multiple), pad(scene.class_ids, self.multiple)
        self.classes = len(scene.palette)
        self.encoder = ContextEncoder(self.classes, settings.width)
        # Eight bits are enough: what the layers lack of the photograph is added from the photograph itself.
        self.register_buffer("layers", torch.zeros(self.classes, *image.shape[-2:], 3, dtype=torch.uint8))
        self.register_buffer("image", image, persistent=False)
        self.register_buffer("class_ids", class_ids, persistent=False)
        self.register_buffer("palette", scene.palette, persistent=False)

    @torch.no_grad()
    def prepare(self, on_stage: OnStage = lambda _name, _share_done: None) -> None:
        """Work out from the photograph all that it copies by; the same scene gives the same state.

        Args:
            on_stage: see `training.interface.OnStage`.
        """
        with one_thread():
            on_stage("class layers", 0.0)
            image = (self.image[0].cpu() + 1) / 2
            layers = complete_layers(image, self.class_ids[0].cpu(), self.unmoved().tolist())
            self.layers.copy_((layers * 255).round().permute(0, 2, 3, 1))
            on_stage("layout descriptors", DESCRIPTORS_BEGIN)
            self.encoder.project(self.shares(self.class_ids.cpu()))

    def unmoved(self) -> Tensor:
        """Which classes stay in place, bool ``[K]``."""
        ids = self.class_ids[0]
        border = torch.cat([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
        return torch.bincount(border, minlength=self.classes) >= UNMOVED_SHARE * len(border)

    def shares(self, class_ids: Tensor) -> Tensor:
        """The classes' shares ``[N, K, h, w]`` of the fine tokens of class ids ``[N, H, W]``."""
        classes = torch.eye(self.classes, device=class_ids.device)
        return token_shares(look_up(classes, cells_of(class_ids, self.token)))

    def source_tokens(self) -> list[SourceTokens]:
        """All that may be copied, as the encoder now describes it: fine tokens, then coarse."""
        image = (self.image[0] + 1) / 2
        labels = F.one_hot(self.class_ids[0], self.classes).permute(2, 0, 1).float()
        grids = [lay_out(variant, image, labels, self.token) for variant in VARIANTS]
        descriptors = [self.encoder(grid.shares[None])[0] for grid in grids]
        height, width = image.shape[-2:]
        return number_tokens(grids, descriptors, (height, width))

    def photograph(self) -> Photograph:
        """What is copied from, as `composition` takes it."""
        levels = ((self.image[0] + 1) * 127.5).round().long().permute(1, 2, 0)
        classes = torch.cat([self.palette, self.unmoved()[:, None].to(self.palette)], dim=1)
        return photograph_tables(levels, self.layers, self.class_ids[0], classes)

    def describe(self, target: Tensor) -> Tensor:
        """Descriptors ``[N, D, h, w]`` of the fine tokens of class ids ``[N, H, W]``."""
        return cast(Tensor, self.encoder(self.shares(target)))

    def copy(self, target: Tensor, sources: list[SourceTokens], photograph: Photograph) -> Tensor:
        """Paint padded class ids int64 ``[N, H, W]`` as ``[N, 3, H, W]``, from sources that are worked out already."""
        with stage("layout description"):
            descriptors = self.describe(target)
        chosen = match(descriptors, sources, self.token, target.shape[-1])
        with stage("composition"):
            return compose(target, chosen, sources[0], photograph, self.token)

    def synthesise(self, scene: SceneTensors, target_ids: Tensor) -> Tensor:
        """See `SceneGenerator.synthesise`; the scene is the one it was built for."""
        return self.synthesiser(scene)(target_ids)

    def synthesiser(self, scene: SceneTensors) -> Callable[[Tensor], Tensor]:  # noqa: ARG002 - it has its own copy
        """See `SceneGenerator.synthesiser`."""
        sources, photograph = self.source_tokens(), self.photograph()

        def synthesise(target_ids: Tensor) -> Tensor:
            height, width = target_ids.shape[-2:]
            return self.copy(pad(target_ids, self.multiple), sources, photograph)[..., :height, :width]

        return synthesise

"""Training of the copying generator: descriptors that find, in layouts of known origin, where everything came from."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.context_encoder import ContextEncoder
from training.copying_generator import CopyingGenerator
from training.layout_sampling import CELLS, KnownLayouts, LayoutSampler
from training.settings import TrainingSettings
from training.tensors import SceneTensors

TARGET_SPREAD = 1.0
"""Tokens: a match this far from the truth is nearly as good."""


class CopyingTrainer:
    """The generator, its optimiser, and what one iteration does to them.

    All randomness of an iteration is seeded from its number, so a resumed run continues the same run.
    """

    def __init__(self, scene: SceneTensors, settings: TrainingSettings, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.settings = settings.copying
        self.generator = CopyingGenerator(settings.copying, scene).to(scene.image.device)
        self.sharpness = torch.nn.Parameter(torch.tensor(self.settings.initial_sharpness, device=scene.image.device))
        self._prepared = False
        ids = self.generator.class_ids[0]
        self._layouts = LayoutSampler(ids, self.generator.unmoved(), self.generator.token)
        self._shares = self.generator.shares(self.generator.class_ids)
        self._optimiser = torch.optim.AdamW(
            [*self.generator.encoder.parameters(), self.sharpness], lr=self.settings.rate, weight_decay=0.0
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on."""
        return {
            "generator": self.generator.state_dict(),
            "sharpness": self.sharpness.detach(),
            "optimiser": self._optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        with torch.no_grad():
            self.sharpness.copy_(state["sharpness"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._prepared = True

    def iterate(self, iteration: int, progress: float) -> dict[str, float]:
        """Run one iteration; the first one completes the class layers before it.

        Returns:
            ``matching``: cross entropy of the matches, in nats; ``misplaced``: their median distance from
            the truth, in tokens.
        """
        torch.manual_seed((self.seed * 1_000_003 + iteration) % 2**63)
        if not self._prepared:
            self.generator.prepare()
            self._prepared = True
        if not len(self._layouts.objects):
            return {"matching": 0.0, "misplaced": 0.0}  # nothing in this scene can move: there is nothing to learn
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.rate * (1 - 0.95 * progress)
        layouts = self._layouts.draw(self.settings.batch)
        if not layouts.known.any():
            return {"matching": 0.0, "misplaced": 0.0}  # every object was left out, which few objects now and then are
        loss, misplaced = self._match_loss(layouts)
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimiser.step()
        return {"matching": loss.item(), "misplaced": misplaced}

    def finished_generator(self) -> CopyingGenerator:
        """A copy whose descriptors keep the scale that the other costs of matching are set to."""
        finished = copy.deepcopy(self.generator)
        finished.encoder.normalise(self._shares)
        return finished.eval()

    def _match_loss(self, layouts: KnownLayouts) -> tuple[Tensor, float]:
        """Cross entropy between where descriptors match and where tokens truly came from."""
        encoder: ContextEncoder = self.generator.encoder
        one_hot = F.one_hot(layouts.class_ids, self.generator.classes).permute(0, 3, 1, 2).float()
        target = encoder(F.avg_pool2d(one_hot, CELLS)).permute(0, 2, 3, 1)
        picked = torch.nonzero(layouts.known.flatten())[:, 0]
        picked = picked[torch.randperm(len(picked), device=picked.device)[: self.settings.tokens]]
        found = target.flatten(0, 2)[picked]
        origins = layouts.origins.flatten(0, 2)[picked]
        source = encoder(self._shares)[0]
        h, w = source.shape[-2:]
        source = source.flatten(1).T
        distances = found.square().sum(1)[:, None] + source.square().sum(1) - 2 * found @ source.T
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        places = torch.stack([rows, columns], dim=-1).flatten(0, 1).float().to(origins.device)
        off = torch.cdist(origins, places)
        truth = torch.softmax(-off.square() / (2 * TARGET_SPREAD**2), dim=1)
        loss = F.cross_entropy(-distances * self.sharpness.exp(), truth)
        misplaced = off.gather(1, distances.detach().argmin(1, keepdim=True)).median().item()
        return loss, misplaced

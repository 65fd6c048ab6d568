"""One iteration of alternating training: sampling or reconstruction (Li et al. 2020, algorithm 1)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semia.training.machine import has_fast_bfloat16
from semia.training.published import losses
from semia.training.published.augmentation import draw_grid, warp, warp_ids
from semia.training.published.discriminator import Discriminator, Judgement
from semia.training.published.generator import Generator, Synthesis
from semia.training.published.layers import initialise
from semia.training.published.losses import FeatureMaps, PatchCoherence
from semia.training.published.segmentation import SegmentationNetwork
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors

ADAM_BETAS = (0.0, 0.9)

CALIBRATION_PASSES = 8
"""Augmentations that the final batch-norm statistics are averaged over."""


@dataclass(frozen=True)
class View:
    """A photograph and its labels, augmented or not."""

    image: Tensor  # [1, 3, H, W] in [-1, 1]
    class_ids: Tensor  # [1, H, W]
    labels: Tensor  # the class ids as colours, [1, 3, H, W] in [-1, 1]


class AlternatingTrainer:
    """The three networks, their optimisers, and what one iteration does to them.

    All randomness of an iteration is seeded from its number, so a resumed run continues the same run.
    """

    def __init__(self, scene: SceneTensors, settings: TrainingSettings, seed: int, patch_features: FeatureMaps) -> None:
        device = scene.image.device
        torch.manual_seed(seed)
        self.scene = scene
        self.settings = settings
        self.seed = seed
        self.coherence = PatchCoherence(patch_features)
        self.generator = Generator.from_settings(settings).to(device)
        self.discriminator = Discriminator(settings.discriminator_width).to(device)
        self.segmentation = SegmentationNetwork(settings.segmentation_width).to(device)
        for network in self._networks.values():
            initialise(network, settings.initial_gain)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.optimisers = {
            "generator": _adam(self.generator, settings.generator_rate),
            "discriminator": _adam(self.discriminator, settings.discriminator_rate),
            "segmentation": _adam(self.segmentation, settings.generator_rate),
        }
        self.source = View(_channels_last(scene.image), scene.class_ids, _channels_last(scene.labels))

    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on: tensors and numbers, loadable with ``weights_only``."""
        return {
            **{name: network.state_dict() for name, network in self._networks.items()},
            **{f"{name}_optimiser": optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        for name, network in self._networks.items():
            network.load_state_dict(state[name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[f"{name}_optimiser"])

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "segmentation": self.segmentation,
        }

    def iterate(self, iteration: int, progress: float) -> dict[str, float]:
        """Run one iteration and return its losses, unweighted, as they were at its last steps.

        ``progress`` is the share of the run that was done before it, in [0, 1].
        """
        torch.manual_seed((self.seed * 1_000_003 + iteration) % 2**63)
        for name, rate in self._rates(progress).items():
            weights, affine = self.optimisers[name].param_groups
            weights["lr"], affine["lr"] = rate, rate * self.settings.affine_rate_factor
        augmented = self._augment(progress)
        if self.settings.is_reconstruction(iteration):
            return self._reconstruct(augmented)
        swapped = torch.rand(()).item() < self.settings.swap_probability
        source, target = (augmented, self.source) if swapped else (self.source, augmented)
        return self._sample(source, target)

    def finished_generator(self) -> Generator:
        """A copy of the generator whose batch norms know the statistics of its present weights.

        The running averages that training keeps lag behind weights that change at every step, and a
        single image gives noisy ones; here they are taken anew over several augmentations.
        """
        generator = Generator.from_settings(self.settings).to(self.scene.image.device)
        generator.load_state_dict(self.generator.state_dict())
        for layer in generator.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain average over all passes
        torch.manual_seed(self.seed)
        with torch.no_grad():
            for _ in range(CALIBRATION_PASSES):
                augmented = self._augment(1.0)
                generator(self.source.image, self.source.labels, augmented.labels)
        return generator.eval()

    def _rates(self, progress: float) -> dict[str, float]:
        share = self.settings.rate_share(progress)
        generator_rate = self.settings.generator_rate * share
        return {
            "generator": generator_rate,
            "discriminator": self.settings.discriminator_rate * share,
            "segmentation": generator_rate,
        }

    def _augment(self, progress: float) -> View:
        strength = self.settings.augmentation_strength(progress)
        height, width = self.scene.image.shape[2:]
        grid = draw_grid(self.settings.augmentation, strength, height, width, self.scene.image.device)
        class_ids = warp_ids(self.scene.class_ids, grid)
        image, labels = warp(self.scene.image, grid), self.scene.colors(class_ids)
        return View(_channels_last(image), class_ids, _channels_last(labels))

    def _sample(self, source: View, target: View) -> dict[str, float]:
        """G(I, P, P_aug) must look real, align with P_aug, and be made of I's patches."""
        weights = self.settings.weights
        synthesis = self._generate(source, target)
        self._discriminator_step(target, synthesis.image.detach())
        real = self._judge_real(target)
        with self.autocast():
            coherence = self.coherence.to_source(source.image, source.class_ids, target.class_ids)
        segment = self.segmentation.frozen()
        terms: dict[str, Tensor] = {}
        for step in range(self.settings.generator_steps):
            if step > 0:
                synthesis = self._generate(source, target)
            output = synthesis.image
            with self.autocast():
                fake = self.discriminator(output)
                terms = {
                    "adversarial": losses.least_squares_real(fake),
                    "feature_matching": losses.feature_matching(fake, real),
                    "alignment": losses.semantic_alignment(segment(output), target.labels),
                    "coherence": coherence(output),
                    "supervision": F.l1_loss(output, target.image),
                }
            self._generator_step(
                weights.adversarial * terms["adversarial"]
                + weights.feature_matching * terms["feature_matching"]
                + weights.alignment * terms["alignment"]
                + weights.coherence * terms["coherence"]
                + weights.supervision * terms["supervision"]
            )
        return _floats(terms) | {"discriminator": self._final_discriminator_step(source, target)}

    def _reconstruct(self, view: View) -> dict[str, float]:
        """G(I_aug, P_aug, P_aug) must give I_aug, translating nothing."""
        weights = self.settings.weights
        synthesis = self._generate(view, view)
        self._discriminator_step(view, synthesis.image.detach())
        segmentation = self._segmentation_step(view)
        real = self._judge_real(view)
        terms: dict[str, Tensor] = {}
        for step in range(self.settings.generator_steps):
            if step > 0:
                synthesis = self._generate(view, view)
            with self.autocast():
                fake = self.discriminator(synthesis.image)
                terms = {
                    "adversarial": losses.least_squares_real(fake),
                    "feature_matching": losses.feature_matching(fake, real),
                    "reconstruction": F.l1_loss(synthesis.image, view.image),
                    "fixed_point": losses.fixed_point(synthesis.translation),
                }
            self._generator_step(
                weights.adversarial * terms["adversarial"]
                + weights.feature_matching * terms["feature_matching"]
                + weights.reconstruction * terms["reconstruction"]
                + weights.fixed_point * terms["fixed_point"]
            )
        discriminator = self._final_discriminator_step(view, view)
        return _floats(terms) | {"segmentation": segmentation, "discriminator": discriminator}

    def _generate(self, source: View, target: View) -> Synthesis:
        noise = (torch.rand_like(source.image) * 2 - 1) * (self.settings.noise / 127.5)
        with self.autocast():
            synthesis: Synthesis = self.generator(source.image + noise, source.labels, target.labels)
        return synthesis

    def autocast(self) -> torch.autocast:
        """Bfloat16 where asked for and fast; it has float32's range, and the feature ratios are float32 in any case."""
        device = self.scene.image.device
        enabled = self.settings.mixed_precision and has_fast_bfloat16(device)
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def _judge_real(self, target: View) -> Judgement:
        """The real features that all generator steps of an iteration match: the discriminator rests meanwhile."""
        with torch.no_grad(), self.autocast():
            judgement: Judgement = self.discriminator(target.image)
        return judgement

    def _generator_step(self, loss: Tensor) -> None:
        _step(self.optimisers["generator"], loss, inputs=list(self.generator.parameters()))

    def _final_discriminator_step(self, source: View, target: View) -> float:
        with torch.no_grad():
            output = self._generate(source, target).image
        return self._discriminator_step(target, output)

    def _discriminator_step(self, target: View, output: Tensor) -> float:
        with self.autocast():
            real, fake = self.discriminator(target.image), self.discriminator(output)
            loss = losses.least_squares_real(real) + losses.least_squares_fake(fake)
        _step(self.optimisers["discriminator"], loss, inputs=list(self.discriminator.parameters()))
        return loss.item()

    def _segmentation_step(self, view: View) -> float:
        self.segmentation.train()
        with self.autocast():
            loss = F.l1_loss(self.segmentation(view.image), view.labels)
        _step(self.optimisers["segmentation"], loss, inputs=list(self.segmentation.parameters()))
        return loss.item()


def _adam(network: nn.Module, rate: float) -> torch.optim.Adam:
    """Adam over two groups: convolutions' weights, then biases and norms' scales."""
    parameters = list(network.parameters())
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    affine = [parameter for parameter in parameters if parameter.ndim == 1]
    return torch.optim.Adam([{"params": weights}, {"params": affine}], lr=rate, betas=ADAM_BETAS, fused=True)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor, inputs: list[nn.Parameter]) -> None:
    optimiser.zero_grad(set_to_none=True)
    # Only this network's gradients: the others rest, and their weight gradients would be half the cost.
    torch.autograd.backward(loss, inputs=inputs)
    optimiser.step()


def _channels_last(image: Tensor) -> Tensor:
    """The layout that convolutions are fastest in, on CPUs and on tensor cores."""
    return image.contiguous(memory_format=torch.channels_last)


def _floats(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}

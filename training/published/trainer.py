"""One iteration of alternating training: sampling or reconstruction (Li et al. 2020, algorithm 1)."""

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semia.training.machine import has_fast_bfloat16
from semia.training.published import losses
from semia.training.published.augmentation import draw_grid, warp, warp_ids
from semia.training.published.autoencoder import begin_as_autoencoder
from semia.training.published.generator import Generator, Synthesis
from semia.training.published.layers import even_out_phases, initialize
from semia.training.published.losses import FeatureMaps, PatchCoherence, PatchDistribution
from semia.training.published.networks import Discriminator, Judgement, SegmentationNetwork
from semia.training.settings import TrainingSettings
from semia.training.tensors import SceneTensors

CALIBRATION_PASSES = 8
"""Augmentations that the final batch-norm statistics are averaged over."""


@dataclass(frozen=True)
class LabeledImage:
    """A photograph and its labels, augmented or not."""

    image: Tensor  # [1, 3, H, W] in [-1, 1]
    class_ids: Tensor  # [1, H, W]
    labels: Tensor  # the class ids as colors, [1, 3, H, W] in [-1, 1]

    @classmethod
    def of(cls, image: Tensor, class_ids: Tensor, labels: Tensor) -> "LabeledImage":
        """Them in the memory layout that convolutions are fastest in, on CPUs and on tensor cores."""
        image, labels = (each.contiguous(memory_format=torch.channels_last) for each in (image, labels))
        return cls(image, class_ids, labels)

    def clone(self) -> "LabeledImage":
        """The same in memory of its own."""
        return LabeledImage(self.image.clone(), self.class_ids.clone(), self.labels.clone())

    def copy_(self, other: "LabeledImage") -> None:
        """Take over another's values."""
        self.image.copy_(other.image)
        self.class_ids.copy_(other.class_ids)
        self.labels.copy_(other.labels)


class AlternatingTrainer:
    """The three networks, their optimizers, and what one iteration does to them.

    All randomness of an iteration is seeded from its number, so a resumed run continues the same run.

    An iteration is a few steps, functions without arguments that read ``source`` and ``target`` and change the
    networks. On a GPU they are recorded as CUDA graphs: launching their thousands of small kernels one by one would
    take several times as long as the kernels themselves.
    """

    def __init__(
        self,
        scene: SceneTensors,
        settings: TrainingSettings,
        seed: int,
        patch_features: FeatureMaps,
        examples: Sequence[LabeledImage] = (),
        plates: Tensor | None = None,
    ) -> None:
        """Begin with first weights.

        Args:
            scene: the photograph and its labels.
            settings: of the run.
            seed: of all randomness.
            patch_features: what patch coherence compares.
            examples: pictures of other layouts of the photograph; if there are any, the targets of sampling iterations.
            plates: each class on the whole padded canvas, uint8 ``[K, 3, H, W]``; only with ``class_plates``.
        """
        device = scene.image.device
        torch.manual_seed(seed)
        self.scene = scene
        self.settings = settings
        self.seed = seed
        self.examples = examples
        self.coherence = PatchCoherence(patch_features, len(scene.palette))
        self.distribution = PatchDistribution(len(scene.palette))
        self.generator = Generator.from_settings(settings, scene).to(device)
        if plates is not None:
            assert self.generator.plates is not None, "plates need the setting class_plates"
            self.generator.plates.copy_(plates)
        self.discriminator = Discriminator(settings.discriminator_width).to(device)
        self.segmentation = SegmentationNetwork(settings.segmentation_width).to(device)
        self._networks: dict[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "segmentation": self.segmentation,
        }
        for network in self._networks.values():
            initialize(network, settings.initial_gain)
        if settings.begin_as_autoencoder:
            begin_as_autoencoder(self.generator, scene.image)
        for network in self._networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self._rates = dict.fromkeys(self._networks, settings.generator_rate)
        self._rates["discriminator"] = settings.discriminator_rate
        self.optimizers = {
            name: _adam(network, settings, self._rates[name]) for name, network in self._networks.items()
        }
        upsampling = [layer for layer in self.generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
        self._upsampling_kernels = [layer.get_parameter("parametrizations.weight.original") for layer in upsampling]
        self._even_out_phases()
        self.photograph = LabeledImage.of(scene.image, scene.class_ids, scene.labels)
        self.source, self.target = self.photograph.clone(), self.photograph.clone()
        self._recorder = StepRecorder(device, eager_iterations=settings.reconstruction_every)

    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on: tensors and numbers, loadable with ``weights_only``."""
        return {
            **{name: network.state_dict() for name, network in self._networks.items()},
            **{f"{name}_optimiser": optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        for name, network in self._networks.items():
            network.load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[f"{name}_optimiser"])
            _suit_device(optimizer)  # the state may come from another

    def iterate(self, iteration: int, progress: float) -> dict[str, float]:
        """Run one iteration and return its losses, unweighted, as they were at its last steps.

        ``progress`` is the share of the run that was done before it, in [0, 1].
        """
        torch.manual_seed((self.seed * 1_000_003 + iteration) % 2**63)
        for name, optimizer in self.optimizers.items():
            rate = self._rates[name] * self.settings.rate_share(progress)
            weights, affine = optimizer.param_groups
            _set_rate(weights, rate)
            _set_rate(affine, rate * self.settings.affine_rate_factor)
        reconstructs = self.settings.is_reconstruction(iteration)
        augmented = self._augment(progress) if reconstructs or not self.examples else self._example()
        first, further = self._first_sampling_step, self._sampling_step
        if reconstructs:
            first, further = self._first_reconstruction_step, self._reconstruction_step
            source, target = augmented, augmented
        elif torch.rand(()).item() < self.settings.swap_probability:
            source, target = augmented, self.photograph
        else:
            source, target = self._source_of(augmented), augmented
        with self._recorder.iteration():
            self.source.copy_(source)
            self.target.copy_(target)
            losses = self._recorder.run(first)
            for _ in range(self.settings.generator_steps - 1):
                losses |= self._recorder.run(further)
            losses |= self._recorder.run(self._final_discriminator_step)
            return {name: loss.item() for name, loss in losses.items()}

    def finished_generator(self) -> Generator:
        """A copy of the generator whose batch norms know the statistics of its present weights.

        The running averages that training keeps lag behind weights that change at every step, and a
        single image gives noisy ones; here they are taken anew over several augmentations.
        """
        generator = Generator.from_settings(self.settings, self.scene).to(self.scene.image.device)
        generator.load_state_dict(self.generator.state_dict())
        for layer in generator.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain average over all passes
        torch.manual_seed(self.seed)
        with torch.no_grad():
            for _ in range(CALIBRATION_PASSES):
                target = self._example() if self.examples else self._augment(1.0)
                generator(self._source_of(target).image, self.photograph.labels, target.labels)
        return generator.eval()

    def _source_of(self, target: LabeledImage) -> LabeledImage:
        """The photograph, or the draft of a target where there are plates, with the photograph's layout."""
        source = self.photograph
        if self.generator.plates is None:
            return source
        image = self.generator.image_for(self.scene, target.class_ids)
        return LabeledImage.of(image, source.class_ids, source.labels)

    def _augment(self, progress: float) -> LabeledImage:
        strength = self.settings.augmentation_strength(progress)
        height, width = self.scene.image.shape[2:]
        grid = draw_grid(self.settings.augmentation, strength, height, width, self.scene.image.device)
        class_ids = warp_ids(self.scene.class_ids, grid)
        image = warp(self.scene.image, grid, self.settings.interpolation)
        return LabeledImage.of(image, class_ids, self.scene.colors(class_ids))

    def _example(self) -> LabeledImage:
        return self.examples[int(torch.randint(len(self.examples), ()))]

    def _first_sampling_step(self) -> dict[str, Tensor]:
        """A discriminator step, then the first generator step on the picture that it has seen."""
        synthesis = self._generate()
        self._discriminator_step(synthesis.image.detach())
        self._judge_real()
        if self.settings.weights.coherence:
            with self.autocast():
                source = self.source
                self._coherence = self.coherence.to_source(source.image, source.class_ids, self.target.class_ids)
        return self._sampling_step(synthesis)

    def _sampling_step(self, synthesis: Synthesis | None = None) -> dict[str, Tensor]:
        """G(I, P, P_aug) must look real, align with P_aug, and be made of I's patches.

        What costs time and has no weight is left out.
        """
        weights = self.settings.weights
        output = (synthesis or self._generate()).image
        with self.autocast():
            fake = self.discriminator(output)
            terms = {
                "adversarial": losses.least_squares_real(fake),
                "feature_matching": losses.feature_matching(fake, self._real),
                "supervision": F.l1_loss(output, self.target.image),
            }
            if weights.gradients:
                terms["gradients"] = losses.gradient_difference(output, self.target.image)
            if weights.alignment:
                terms["alignment"] = losses.semantic_alignment(self.segmentation(output), self.target.labels)
            if weights.coherence:
                terms["coherence"] = self._coherence(output)
        if weights.distribution:
            source = self.photograph
            terms["distribution"] = self.distribution(output, self.target.class_ids, source.image, source.class_ids)
        if weights.changed_distribution:
            source, ids = self.photograph, self.target.class_ids
            changed = torch.where(ids == source.class_ids, self.distribution.class_count, ids)
            terms["changed_distribution"] = self.distribution(output, changed, source.image, source.class_ids)
        return self._generator_step(terms)

    def _first_reconstruction_step(self) -> dict[str, Tensor]:
        """A step of the discriminator and of S, then the first generator step."""
        synthesis = self._generate()
        self._discriminator_step(synthesis.image.detach())
        segmentation = self._segmentation_step()
        self._judge_real()
        return self._reconstruction_step(synthesis) | {"segmentation": segmentation}

    def _reconstruction_step(self, synthesis: Synthesis | None = None) -> dict[str, Tensor]:
        """G(I_aug, P_aug, P_aug) must give I_aug, translating nothing."""
        synthesis = synthesis or self._generate()
        with self.autocast():
            fake = self.discriminator(synthesis.image)
            terms = {
                "adversarial": losses.least_squares_real(fake),
                "feature_matching": losses.feature_matching(fake, self._real),
                "reconstruction": F.l1_loss(synthesis.image, self.target.image),
                "fixed_point": losses.fixed_point(synthesis.translation),
            }
        return self._generator_step(terms)

    def _generate(self) -> Synthesis:
        image = self.source.image
        noise = (torch.rand_like(image) * 2 - 1) * (self.settings.noise / 255)
        with self.autocast():
            synthesis: Synthesis = self.generator(image + noise, self.source.labels, self.target.labels)
        return synthesis

    def autocast(self) -> torch.autocast:
        """Bfloat16 where asked for and fast; it has float32's range, and the feature ratios are float32 in any case."""
        device = self.scene.image.device
        enabled = self.settings.mixed_precision and has_fast_bfloat16(device)
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def _judge_real(self) -> None:
        """Keep the real features that all generator steps of an iteration match: the discriminator rests meanwhile."""
        with torch.no_grad(), self.autocast():
            self._real: Judgement = self.discriminator(self.target.image)

    def _generator_step(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """A step down the weighted sum of the terms, each called as its weight is in `LossWeights`; returns them."""
        weighted = (getattr(self.settings.weights, name) * term for name, term in terms.items())
        self._step("generator", functools.reduce(operator.add, weighted))
        self._even_out_phases()
        return {name: term.detach() for name, term in terms.items()}

    def _even_out_phases(self) -> None:
        if self.settings.even_phases:
            for kernels in self._upsampling_kernels:
                even_out_phases(kernels)

    def _final_discriminator_step(self) -> dict[str, Tensor]:
        with torch.no_grad():
            output = self._generate().image
        return {"discriminator": self._discriminator_step(output)}

    def _discriminator_step(self, output: Tensor) -> Tensor:
        with self.autocast():
            real, fake = self.discriminator(self.target.image), self.discriminator(output)
            loss = losses.least_squares_real(real) + losses.least_squares_fake(fake)
        return self._step("discriminator", loss)

    def _segmentation_step(self) -> Tensor:
        with self.autocast():
            loss = F.l1_loss(self.segmentation(self.target.image), self.target.labels)
        return self._step("segmentation", loss)

    def _step(self, name: str, loss: Tensor) -> Tensor:
        """A step of one network; returns its loss, detached."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        # Only this network's gradients: the others rest, and their weight gradients would be half the cost.
        torch.autograd.backward(loss, inputs=list(self._networks[name].parameters()))
        optimizer.step()
        return loss.detach()


class StepRecorder:
    """Runs an iteration's steps: on a GPU each is recorded as a CUDA graph the first time, and replayed thereafter.

    A recorded step reads and writes always the same memory, that of its first time.
    """

    def __init__(self, device: torch.device, *, eager_iterations: int) -> None:
        """Record nothing yet; on a CPU steps just run, as they do in the first ``eager_iterations`` everywhere.

        What they allocate and choose at their first time has to be there before they are recorded.
        """
        self._eager_iterations = eager_iterations
        self._recorded: dict[str, tuple[torch.cuda.CUDAGraph, dict[str, Tensor]]] = {}
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    @contextlib.contextmanager
    def iteration(self) -> Iterator[None]:
        """Within, one iteration's steps are run, in the order in which they are first recorded."""
        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            yield
        self._eager_iterations -= 1

    def run(self, step: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Run a step, a method without arguments; returns what it returned, to be read before it runs again."""
        if self._stream is None or self._eager_iterations > 0:
            return step()
        name = step.__name__
        if name not in self._recorded:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                outputs = step()
            self._recorded[name] = graph, outputs
        graph, outputs = self._recorded[name]
        graph.replay()
        return dict(outputs)


def _adam(network: nn.Module, settings: TrainingSettings, rate: float) -> torch.optim.Adam:
    """Adam over two groups: convolutions' weights, then biases and norms' scales."""
    parameters = list(network.parameters())
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    affine = [parameter for parameter in parameters if parameter.ndim == 1]
    betas = (settings.momentum, settings.square_decay)
    optimizer = torch.optim.Adam([{"params": weights}, {"params": affine}], lr=rate, betas=betas, fused=True)
    _suit_device(optimizer)
    return optimizer


def _suit_device(optimizer: torch.optim.Optimizer) -> None:
    """On a GPU the rates are tensors there, which recorded steps read anew; on a CPU they are numbers."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        on_gpu = device.type == "cuda"
        group["capturable"] = on_gpu
        group["lr"] = torch.tensor(float(group["lr"]), device=device) if on_gpu else float(group["lr"])


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate

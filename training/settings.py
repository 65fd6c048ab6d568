"""Everything that decides what a training run of the published generator computes, and the presets of both."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from semia.core.model_card import GeneratorKind
from semia.training.copying.settings import CopyingSettings
from semia.training.errors import SettingsError
from semia.training.published.augmentation import AugmentationSettings, Interpolation


@dataclass(frozen=True)
class LossWeights:
    """The generator's objective is the weighted sum of these."""

    adversarial: float = 1.0  # least-squares GAN
    feature_matching: float = 1.0  # L1 of the discriminator's features
    reconstruction: float = 5.0  # L1 to the photograph; reconstruction iterations
    fixed_point: float = 1.0  # gammas to 1, betas to 0; reconstruction iterations
    alignment: float = 1.0  # labels seen in the output; sampling iterations
    coherence: float = 1.0  # patches of the output in the source; sampling iterations
    # L1 to the augmented photograph in sampling iterations too, where it is the right answer. The published
    # method does without; with it the first thousand steps teach far more.
    supervision: float = 0.0
    # L1 of the differences between pixels beside each other, likewise. Where a color is a little off, as skies mostly
    # are, plain L1 does not feel a weave on it.
    gradients: float = 0.0
    # The classes' patches must be distributed as in the photograph; sampling iterations. Not of the published method:
    # unlike L1 it does not ask for the mean where a detail could stand here or there.
    distribution: float = 0.0
    # The same of those places alone that have another class than in the photograph: most places have not, and would
    # hide that these are wrong.
    changed_distribution: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < math.inf:
                raise SettingsError(f"loss weight {name} must not be negative, but is {value}")


@dataclass(frozen=True)
class TrainingSettings:
    """One run's settings; the defaults are the published ones (Li et al. 2020, section 4.1)."""

    generator: ClassVar[GeneratorKind] = "published"

    preset: str = "paper"  # the preset they began as
    iterations: int = 2500  # with minutes: only the scale that the schedules' iterations are told on
    minutes: float | None = None  # the run ends after so long, on any machine; None counts iterations
    generator_width: int = 32  # b: channels before the first down block
    depth: int = 3  # n: how often the picture is halved
    ratio_limit: float | None = None  # clamps the feature ratios, either sign; None, as published, leaves them
    discriminator_width: int = 64
    segmentation_width: int = 128
    initial_gain: float = 0.02  # Xavier gain of the first weights, where no spectral norm is
    begin_as_autoencoder: bool = False  # first weights of G that draw the photograph; as published, random ones
    # Other layouts of the photograph, made before training, the targets of sampling iterations; 0, as published, has
    # them of the augmented photograph.
    examples: int = 0
    # Whether each class is painted on the whole canvas before training: its plate. A layout is then drawn not from the
    # photograph but from a draft, in which plates show what changes. Not of the published method.
    class_plates: bool = False
    generator_steps: int = 10  # per iteration, between two discriminator steps
    reconstruction_every: int = 5  # every so many iterations is a reconstruction iteration
    swap_probability: float = 0.5  # of exchanging source and target in a sampling iteration
    noise: float = 1.0  # uniform noise on the generator's image input, in half 8-bit levels either way
    interpolation: Interpolation = "bilinear"  # of the augmented photograph
    progressive_iterations: int = 1000  # augmentation grows to full strength over these
    generator_rate: float = 0.005  # Adam's rate for G and S
    discriminator_rate: float = 0.02  # Adam's rate for D: two time scales
    even_phases: bool = False  # of the upsampling, after every step: against the woven pattern of uneven ones
    momentum: float = 0.0  # Adam's first beta, of all three networks
    square_decay: float = 0.9  # Adam's second
    affine_rate_factor: float = 1.0  # of the rates, for biases and norms' scales, which no spectral norm rescales
    constant_iterations: int = 1000  # before the rates begin to fall
    final_rate_share: float = 0.1  # of the rates, reached at the last iteration by equal steps
    mixed_precision: bool = False  # bfloat16 convolutions, on devices that have instructions for them
    max_side: int | None = None  # pixels: larger photographs are scaled down to it; None keeps them
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __post_init__(self) -> None:
        counted = ("iterations", "generator_width", "depth", "discriminator_width", "segmentation_width")
        for name in (*counted, "generator_steps", "reconstruction_every"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.interpolation not in get_args(Interpolation):
            raise SettingsError(f"interpolation must be bilinear or bicubic, not {self.interpolation!r}")
        for name in ("momentum", "square_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be within [0, 1), not {getattr(self, name)}")
        if self.examples < 0:
            raise SettingsError(f"examples must not be negative, but is {self.examples}")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise SettingsError(f"minutes must be above 0, not {self.minutes}")
        if self.generator_width % 4:
            raise SettingsError(f"generator_width must be a multiple of 4, not {self.generator_width}")

    def with_iterations(self, iterations: int) -> "TrainingSettings":
        """The same run ending after so many iterations: the schedules scale with them, examples are no more."""
        scale = iterations / self.iterations
        return dataclasses.replace(
            self,
            iterations=iterations,
            minutes=None,
            progressive_iterations=round(self.progressive_iterations * scale),
            constant_iterations=round(self.constant_iterations * scale),
            examples=min(self.examples, math.ceil(self.examples * scale)),
        )

    @property
    def multiple(self) -> int:
        """Canvas sides are padded to multiples of this."""
        return int(2**self.depth)

    def progress(self, iterations: int, seconds: float) -> float:
        """The share of the run, in [0, 1], that is done after so many iterations and seconds of training."""
        if self.minutes is None:
            return min(1.0, iterations / self.iterations)
        return min(1.0, seconds / (60 * self.minutes))

    def augmentation_strength(self, progress: float) -> float:
        """The strength q in [0, 1] when a share of the run is done: the progressive schedule."""
        return min(1.0, progress * self.iterations / max(1, self.progressive_iterations))

    def rate_share(self, progress: float) -> float:
        """The share of the learning rates when a share of the run is done: constant, then falling by equal steps."""
        falling = max(1, self.iterations - self.constant_iterations)
        fallen = min(1.0, max(0.0, progress * self.iterations - self.constant_iterations) / falling)
        return 1 - (1 - self.final_rate_share) * fallen

    def is_reconstruction(self, iteration: int) -> bool:
        """Whether an iteration reconstructs the augmented photograph; the others sample."""
        return iteration % self.reconstruction_every == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {"generator": self.generator, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TrainingSettings":
        """The inverse of `to_dict`, missing fields by default; a SettingsError if one is unknown or out of range."""
        # Until the copying generator had settings of its own, its numbers stood among these.
        content = {name: value for name, value in content.items() if name not in ("generator", "copying")}
        try:
            nested = {
                "weights": LossWeights(**content["weights"]),
                "augmentation": AugmentationSettings(**content["augmentation"]),
            }
            return cls(**{**content, **nested})
        except (KeyError, TypeError) as error:
            raise SettingsError(f"these are not training settings: {error}") from error


PAPER = TrainingSettings()

PAPER_SHORT = dataclasses.replace(
    PAPER,
    preset="paper-short",
    iterations=220,
    generator_width=16,
    discriminator_width=32,
    segmentation_width=16,
    ratio_limit=4.0,
    initial_gain=1.0,
    begin_as_autoencoder=True,
    examples=150,
    class_plates=True,
    mixed_precision=True,
    generator_rate=0.0005,
    discriminator_rate=0.0007,
    momentum=0.5,
    square_decay=0.99,
    affine_rate_factor=10.0,
    generator_steps=3,
    reconstruction_every=20,
    swap_probability=0.0,  # only layouts that the photograph is to take, never back
    interpolation="bicubic",
    progressive_iterations=22,
    constant_iterations=88,
    final_rate_share=0.03,
    max_side=224,
    weights=LossWeights(
        alignment=0.0, coherence=0.0, supervision=10.0, gradients=20.0, distribution=2.0, changed_distribution=0.5
    ),
    augmentation=AugmentationSettings(max_zoom=0.1, max_spline_offset=0.05, max_shift=0.25),
)
"""The published generator, half as wide, taught in minutes what it can learn in them."""

DEFAULT = CopyingSettings()

PRESETS: dict[str, TrainingSettings | CopyingSettings] = {
    settings.preset: settings for settings in (DEFAULT, PAPER, PAPER_SHORT)
}


def settings_from_dict(content: dict[str, Any]) -> TrainingSettings | CopyingSettings:
    """The inverse of either settings' ``to_dict``; a SettingsError if it is neither's."""
    generator = content.get("generator", TrainingSettings.generator)  # once there was one generator, and no such field
    for kind in (TrainingSettings, CopyingSettings):
        if generator == kind.generator:
            return kind.from_dict(content)
    raise SettingsError(f"no generator {generator!r}: there are {', '.join(get_args(GeneratorKind))}")

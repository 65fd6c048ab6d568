"""What decides how the copying generator is built and trained."""

from dataclasses import dataclass

from training.errors import SettingsError


@dataclass(frozen=True)
class CopyingSettings:
    """The copying generator's settings."""

    width: int = 32  # of a layout descriptor
    # AdamW's, at the beginning; it falls to a twentieth. Faster, or for longer, descriptors fit the random layouts
    # better and what people draw worse: this stays near the principal components that they begin as.
    rate: float = 2.5e-7
    batch: int = 4  # random layouts a step
    tokens: int = 1024  # of them, matched a step
    initial_sharpness: float = 0.5  # logarithm of how fast a match's likelihood falls with squared distance

    def __post_init__(self) -> None:
        for name in ("width", "batch", "tokens"):
            if getattr(self, name) < 1:
                raise SettingsError(f"the copying generator's {name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.rate < 1:
            raise SettingsError(f"the copying generator's rate must be within 0 and 1, not {self.rate}")

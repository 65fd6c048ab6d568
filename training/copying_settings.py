"""What decides how the copying generator is built and trained."""

from dataclasses import dataclass

from training.errors import SettingsError


@dataclass(frozen=True)
class CopyingSettings:
    """The copying generator's settings."""

    width: int = 64  # channels of its layers

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SettingsError(f"the copying generator's width must be at least 1, not {self.width}")

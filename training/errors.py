"""What can go wrong while a generator is trained or prepared. What is also an `InputError` exits 2, the rest 1."""

import contextlib
from collections.abc import Iterator

from semia.core.errors import ImageError, InputError, SemiaError


class TrainingError(SemiaError):
    """Training, or preparing, failed."""


class DivergedError(TrainingError):
    """A loss became infinite or not a number; the last checkpoint is still good."""


class SceneError(TrainingError, InputError):
    """The scene folder is missing something or contradicts itself."""


class SettingsError(TrainingError, InputError):
    """A training setting is out of range, or the device asked for is not there."""


class CheckpointError(TrainingError, InputError):
    """A published checkpoint is missing, broken, or another network's."""


class RunError(TrainingError, InputError):
    """A run folder is missing, unreadable, or belongs to another scene or other settings."""


class EvaluationError(TrainingError, InputError):
    """What is to be judged is missing or does not fit together, or an evaluation cannot be read."""


@contextlib.contextmanager
def writing(what: str, advice: str = "", kind: type[TrainingError] = TrainingError) -> Iterator[None]:
    """What the disk refuses within is an error of ours: what cannot be done, why, and what to do about it."""
    try:
        yield
    except (ImageError, OSError) as error:
        raise kind(f"cannot {what}: {error}" + (f"; {advice}" if advice else "")) from error

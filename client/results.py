"""Many targets at once: what comes of each, in the order of the targets, however many there are."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from semia.client.errors import ClientError, ClientSettingsError
from semia.client.protocol import Answer
from semia.core.labels import ClassIds
from semia.core.targets import Target

OnProgress = Callable[[int], None]
"""Told how many targets are done, each time one is, in whichever order the server finishes them."""

AHEAD = 2
"""So many times the calls in flight may be begun before the first of them is taken: one slow picture does not stop
the others, and no more than these are in memory."""


@dataclass(frozen=True)
class Outcome:
    """What came of one target: a picture or an error, never both."""

    index: int  # of the target, from 0
    target: Target
    picture: Image.Image | None
    error: ClientError | None
    class_ids: ClassIds | None = None  # uint8[H, W]: how the target was understood
    version: str = ""  # of the model that made the picture
    model_card_sha256: str = ""  # which export that is
    duration_s: float = 0.0  # from reading the target to the picture, repetitions included

    def unwrap(self) -> Image.Image:
        """The picture.

        Raises:
            ClientError: what went wrong, where there is no picture.
        """
        if self.error is not None:
            raise self.error
        assert self.picture is not None, "a picture or an error"
        return self.picture

    @classmethod
    def of(cls, index: int, target: Target, answer: Answer | ClientError, duration_s: float) -> "Outcome":
        """The outcome of a call."""
        if isinstance(answer, ClientError):
            return cls(index, target, None, answer, duration_s=duration_s)
        picture = Image.fromarray(answer.picture)
        card = answer.model.model_card_sha256
        return cls(index, target, picture, None, answer.ids, answer.version, card, duration_s)


class Progress:
    """Counts what is done."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._done = 0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done)


def check_concurrency(concurrency: int) -> None:
    """Make sure that it is a number of calls.

    Raises:
        ClientSettingsError: if not.
    """
    if not 1 <= concurrency <= 1000:
        raise ClientSettingsError(f"concurrency must be 1 to 1000 calls in flight, not {concurrency}")

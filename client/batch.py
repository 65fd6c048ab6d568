"""Label map files to picture files: which are to be made, which are there, which failed.

Every picture's file says what it was made of and by, so that a batch can go on where it stopped.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from semia.client.client import DEFAULT_CONCURRENCY, Outcome, SynthesisClient
from semia.client.errors import ClientError
from semia.core.errors import ImageError, LabelMapError
from semia.core.images import write_image
from semia.core.labels import ClassIds

PREFIX = "semia:"  # of the keywords of a picture's text chunks that are ours


@dataclass(frozen=True)
class Provenance:
    """What a picture was made of and by: text chunks of a PNG file. Equal ones belong to the same picture."""

    model: str
    version: str  # of the served model
    model_card_sha256: str  # which export that version is
    class_ids_sha256: str  # of the label map, with its size

    @classmethod
    def of(cls, model: str, version: str, model_card_sha256: str, ids: ClassIds) -> "Provenance":
        """Of the picture that a model makes of class ids ``uint8[H, W]``."""
        digest = hashlib.sha256(f"{ids.shape[0]}x{ids.shape[1]}:".encode() + ids.tobytes()).hexdigest()
        return cls(model, version, model_card_sha256, digest)

    def text(self) -> dict[str, str]:
        """The chunks, for `semia.core.images.write_image`."""
        return {PREFIX + key: value for key, value in asdict(self).items()}

    @classmethod
    def read(cls, path: Path) -> "Provenance | None":
        """What a picture's file says; None where there is no whole picture, or it says nothing."""
        try:
            with Image.open(path) as image:
                image.load()  # a picture cut short is to be made again
                return cls(**{key: str(image.info[PREFIX + key]) for key in cls.__dataclass_fields__})
        except Exception:  # whatever is wrong with the file, it is not a picture of ours
            return None


@dataclass(frozen=True)
class FileOutcome:
    """What came of one label map file."""

    target: Path
    output: Path  # the picture's file
    class_ids: ClassIds | None  # uint8[H, W]: how the target was understood; None where there is an error
    error: ClientError | None = None  # why there is no picture: the label map cannot be used
    skipped: bool = False  # whether the picture was there
    duration_s: float = 0.0  # of the call, repetitions included


def synthesize_files(
    client: SynthesisClient,
    model: str,
    files: Mapping[Path, Path],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    resume: bool = False,
) -> Iterator[FileOutcome]:
    """Make pictures of label map files, several at once; yields what came of each, once its file is written.

    A label map that cannot be used does not stop the others. Every file is written whole or not at all. ``files`` has
    the picture file of each label map, as `output_files` names them. With ``resume``, pictures that the model's latest
    version has made of the same label map are left out.

    Raises:
        ClientError: if the server fails, and not a single label map.
    """
    described = client.describe(model)
    skipped: deque[FileOutcome] = deque()

    def pending() -> Iterator[Path]:
        for target, output in files.items():
            if resume and (made_by := Provenance.read(output)) is not None:
                try:
                    ids = client.class_ids(model, target)
                except (ImageError, LabelMapError):
                    yield target  # fails once more, where failures are told
                    continue
                if made_by == Provenance.of(model, described.latest_version, described.model_card_sha256, ids):
                    skipped.append(FileOutcome(target, output, ids, skipped=True))
                    continue
            yield target

    with closing(client.synthesize_many(model, pending(), concurrency=concurrency)) as outcomes:
        for outcome in outcomes:
            while skipped:
                yield skipped.popleft()
            assert isinstance(outcome.target, Path), "targets are paths here"
            yield _write(outcome, outcome.target, files[outcome.target], model)
    yield from skipped


def _write(outcome: Outcome, target: Path, output: Path, model: str) -> FileOutcome:
    if isinstance(outcome.error, (ImageError, LabelMapError)):
        return FileOutcome(target, output, None, outcome.error)
    picture, ids = outcome.unwrap(), outcome.class_ids
    assert ids is not None, "a picture is made of something"
    write_image(output, picture, Provenance.of(model, outcome.version, outcome.model_card_sha256, ids).text())
    return FileOutcome(target, output, ids, duration_s=outcome.duration_s)

"""What a picture was made of and by, kept in the picture's own file, so that a batch can go on where it stopped."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from semia.core.labels import ClassIds

PREFIX = "semia:"


@dataclass(frozen=True)
class Provenance:
    """Text chunks of a PNG file. Equal ones belong to the same picture."""

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

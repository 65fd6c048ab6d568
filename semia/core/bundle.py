"""A bundle: an exported generator's graph and the model card that describes it, as a folder."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, MODEL_FILE, PLAN_FILE, ModelCard


@dataclass(frozen=True)
class Bundle(os.PathLike[str]):
    """A folder of ``model.onnx``, ``model_card.json`` and, where there is a TensorRT engine, ``model.plan``.

    A version in a model repository is laid out likewise. Functions that take a path take a bundle too.
    """

    path: Path
    card: ModelCard

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read the card, and make sure that the graph is the one that it describes.

        Raises:
            InputError: if a file is missing, the card cannot be read, or the graph is another.
        """
        bundle = cls(path, ModelCard.read(path / CARD_FILE))
        if not bundle.graph.is_file():
            raise InputError(f"{path} has no {MODEL_FILE}, which its {CARD_FILE} describes: export it again")
        if problem := hash_problem(bundle.graph, bundle.card):
            raise InputError(f"{bundle.graph} {problem}: export it again")
        return bundle

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_FILE

    def with_quality(self, quality: dict[str, float]) -> "Bundle":
        """Write figures of quality into the card; returns the bundle with it."""
        bundle = dataclasses.replace(self, card=dataclasses.replace(self.card, quality=quality))
        bundle.card.write(self.path / CARD_FILE)
        return bundle

    @staticmethod
    def is_bundle(path: Path) -> bool:
        """Whether there is a bundle, or a version of a model repository, at a path."""
        return (path / CARD_FILE).is_file()


def hash_problem(file: Path, card: ModelCard) -> str | None:
    """What a ``model.onnx`` or ``model.plan`` is not, in words that follow its name; None if its hash is the card's."""
    sha256, expected = sha256_of_file(file), described_sha256(file.name, card)
    if sha256 == expected:
        return None
    kind = "engine" if file.name == PLAN_FILE else "graph"
    return f"is not the {kind} its card describes (SHA-256 {sha256[:12]}..., the card says {expected[:12]}...)"


def described_sha256(file: str, card: ModelCard) -> str:
    """The hash that a card gives of its ``model.onnx`` or ``model.plan``; "of none" where it has no engine."""
    if file != PLAN_FILE:
        return card.graph_sha256
    return "of none" if card.engine is None else card.engine.plan_sha256

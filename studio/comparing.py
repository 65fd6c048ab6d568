"""Other generators of a scene, to compare with the one that is served: earlier versions, and other models.

Triton serves one version of a model. The others are in the repository, and are drawn in this process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semia.client import ModelDescription
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.serving import list_models
from semia.serving.repository.layout import first_of_the_same, versions_of
from semia.studio.errors import NotFoundError

Draw = Callable[[ClassIds], RGB]


@dataclass(frozen=True)
class Other:
    """A version in the repository that draws the layouts of the model that is served."""

    model: str
    version: int
    exported_at: str  # ISO 8601

    @property
    def name(self) -> str:
        """As the page asks for it."""
        return f"{self.model}/{self.version}"


class Others:
    """What a model repository holds beside what is served; the one that was drawn last stays open."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._opened: tuple[tuple[str, str], Draw] | None = None

    def of(self, model: ModelDescription) -> list[Other]:
        """Those that draw a model's layouts, of the same name first, then the newest first.

        They have its canvas and all of its classes' colors. The model itself is not among them, nor is any twice.
        """
        if not self._repository.is_dir():
            return []
        found = [
            Other(each.name, version, card.exported_at)
            for each in list_models(self._repository)
            for version, card in _versions(self._repository / each.name, model)
        ]
        return sorted(found, key=lambda other: (other.model != model.name, other.model, -other.version))

    def open(self, model: ModelDescription, name: str) -> Draw:
        """What draws one of `of`: class ids of ``model``, ``uint8[H, W]`` on its canvas, to ``uint8[H, W, 3]``.

        Raises:
            NotFoundError: if it is not there any more, or draws other layouts.
            InputError: if its files are broken.
        """
        key = name, model.model_card_sha256
        if self._opened is None or self._opened[0] != key:
            self._opened = key, self._draw(model, name)
        return self._opened[1]

    def _draw(self, model: ModelDescription, name: str) -> Draw:
        from semia.evaluation.generators import open_generator  # takes seconds

        if name not in (other.name for other in self.of(model)):
            raise NotFoundError(f"{self._repository} has no version {name} that draws the layouts of {model.name!r}")
        generator = open_generator(self._repository / name)
        ids_of = np.array([generator.palette.colors.index(color) for color in model.palette.colors], np.uint8)
        return lambda ids: generator.draw(ids_of[ids])


def _versions(folder: Path, model: ModelDescription) -> list[tuple[int, ModelCard]]:
    """The versions of one model's folder that draw another model's layouts, each that is no repetition."""
    found = []
    firsts = first_of_the_same(folder)
    for version in versions_of(folder):
        place = folder / str(version)
        if firsts[version] != version or not (place / MODEL_FILE).is_file():
            continue
        try:
            card = ModelCard.read(place / CARD_FILE)
            colors = set(card.to_palette().colors)
        except InputError:
            continue  # `semia models verify` says what is wrong with it
        served = sha256_of_file(place / CARD_FILE) == model.model_card_sha256
        if not served and card.canvas == model.canvas and colors >= set(model.palette.colors):
            found.append((version, card))
    return found

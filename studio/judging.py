"""The six figures of `semia evaluate` for one layout and its picture, asked for from the page."""

from semia.client import ModelDescription
from semia.core import DEFAULT_WIDTH
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.evaluation.evaluate import (
    FIGURE_HEADINGS,
    Judge,
    JudgedTarget,
    judged_size,
    load_judged_scene,
)
from semia.studio.scenes import SceneFolder, tag_of


class SceneJudge:
    """Keeps the judge of the scene that was asked about last: learning a photograph's texture takes a second."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[str, str, str], Judge] | None = None

    def figures(
        self, scene: SceneFolder, model: ModelDescription, ids: ClassIds, picture: RGB
    ) -> dict[str, float | None]:
        """Each figure by its heading; None where nothing could be measured.

        Args:
            scene: with the photograph to judge against.
            model: that made the picture.
            ids: the layout, ``uint8[H, W]``.
            picture: ``uint8[H, W, 3]``.

        Raises:
            SceneError: if the scene's label map is missing or has other classes than the model.
            EvaluationError: if the pictures are too small to judge, or of other proportions.
        """
        key = scene.name, tag_of(scene.photograph_path), model.model_card_sha256
        if self._kept is None or self._kept[0] != key:
            size = judged_size(model.canvas, min(DEFAULT_WIDTH, model.canvas.width))
            judged = load_judged_scene(scene.path, model.palette, model.canvas)
            self._kept = key, Judge.of_scene(judged, size)
        figures = self._kept[1].judge(picture, JudgedTarget("layout", ids, ids))
        return dict(zip(FIGURE_HEADINGS, figures.to_dict().values(), strict=True))

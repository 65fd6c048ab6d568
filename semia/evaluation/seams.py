"""How visible seams, blots and torn shapes are: whether a picture's patches occur in the photograph at all.

At full, half and quarter size every 7x7 RGB patch of a picture (every second one in both directions at full size) is
compared with all patches of the photograph and of its mirror image. The figure is the mean over the sizes of the 95th
percentile of the distance to the nearest: root mean square over the patch's values in [0, 1], times 1000. It is 0 for
the photograph itself; lower is better. Copies that do not fit their neighbors make patches that the photograph has
nowhere, and a twentieth of the picture with such patches decides the figure.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semia.core.images import RGB

PATCH_SIDE = 7
VALUES = 3 * PATCH_SIDE**2  # of a patch
REDUCTIONS = (1, 2, 4)
PERCENTILE = 95
QUERIES_AT_ONCE = 4096  # patches, about
REFERENCES_AT_ONCE = 1024  # likewise; their products take 16 MB, whatever the pictures' size
MIDDLE = 128  # taken off every level: integers up to 128 have products and sums that float32 holds exactly (< 2^24)

Floats = NDArray[np.float32]


class SeamMeasure:
    """Measures pictures against one photograph.

    The photograph's smaller sizes and their mirror images are kept. Its patches are not: they would take 150 times
    its memory, and to list them again takes a hundredth of the time of comparing them.
    """

    def __init__(self, photograph: RGB) -> None:
        """Prepare the photograph, ``uint8[H, W, 3]``."""
        reduced = {reduction: _reduced(photograph, reduction) for reduction in REDUCTIONS}
        self._known = {reduction: (levels, levels[:, ::-1]) for reduction, levels in reduced.items()}

    def measure(self, picture: RGB) -> float | None:
        """The figure of ``uint8[H, W, 3]``, 0 to 1000.

        A size at which the picture or the photograph has no whole patch is left out; None if that is every size.
        """
        percentiles = []
        for reduction, known in self._known.items():
            levels = _reduced(picture, reduction)
            if min(*levels.shape[:2], *known[0].shape[:2]) >= PATCH_SIDE:
                distances = _nearest_distances(levels, known, step=2 if reduction == 1 else 1)
                percentiles.append(float(np.percentile(distances, PERCENTILE)))
        return 1000 * float(np.mean(percentiles)) if percentiles else None


def _reduced(picture: RGB, reduction: int) -> Floats:
    """A picture's levels less `MIDDLE`, averaged over squares of so many pixels; odd sides are rounded up."""
    levels: Floats = np.asarray(Image.fromarray(picture).reduce(reduction)).astype(np.float32) - MIDDLE
    return levels


def _nearest_distances(levels: Floats, known: tuple[Floats, ...], step: int) -> Floats:
    """Each patch's distance to the nearest of those known: root mean square, ``float32[N]`` in [0, 1]."""
    distances = []
    for queries in _patches(levels, step, QUERIES_AT_ONCE):
        # A patch a and a known k are |a|^2 - (2 a k - |k|^2) apart, squared: one product with a 1 beside a.
        with_one = np.pad(queries, ((0, 0), (0, 1)), constant_values=1)
        similarity = np.full(len(queries), -np.inf, dtype=np.float32)
        for picture in known:
            for patches in _patches(picture, 1, REFERENCES_AT_ONCE):
                weighted = np.column_stack([2 * patches, -_squares(patches)])
                np.maximum(similarity, (with_one @ weighted.T).max(axis=1), out=similarity)
        distances.append(np.sqrt((_squares(queries) - similarity) / VALUES) / 255)
    return np.concatenate(distances)


def _patches(levels: Floats, step: int, at_once: int) -> Iterator[Floats]:
    """A picture's patches as ``float32[N, 147]``, some whole rows of them at a time."""
    windows = np.lib.stride_tricks.sliding_window_view(levels, (PATCH_SIDE, PATCH_SIDE, 3))[::step, ::step, 0]
    rows = max(1, at_once // windows.shape[1])
    for top in range(0, len(windows), rows):
        yield windows[top : top + rows].reshape(-1, VALUES)


def _squares(patches: Floats) -> Floats:
    """Each patch's sum of squares, ``float32[N]``."""
    squares: Floats = np.einsum("nv,nv->n", patches, patches)
    return squares

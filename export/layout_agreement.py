"""Where a target's layout agrees with the photograph's, so that its label features must be the photograph's own.

PyTorch gives the very same numbers there, and the feature ratio is exactly 1. A graph's folded norms and another
runtime's convolutions round differently: by some millionths of a channel's largest feature, which is nothing, except
where the denominator is almost 0 itself. There the ratio would be anything, and pictures would show it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_WINDOW, NEXT_WINDOW = (14, 6), (8, 3)
"""Window and padding, at stride 2, of all that one feature of a level is computed from: pixels for the first level,
features of the level before for the next. A 4x4 convolution of stride 2 sees 4 of what two 3x3 convolutions and, on
the first level, a 7x7 one widened by 2 and 3 on each side. Reflected borders lie within."""


class LayoutAgreement(nn.Module):
    """The photograph's label features wherever a feature sees no pixel whose class differs from the photograph's."""

    source_ids: Tensor

    def __init__(self, source_ids: Tensor) -> None:
        """Take the photograph's layout.

        Args:
            source_ids: padded class ids, int64 ``[1, H, W]``.
        """
        super().__init__()
        self.register_buffer("source_ids", source_ids)

    def forward(self, target_ids: Tensor, source_features: list[Tensor], target_features: list[Tensor]) -> list[Tensor]:
        """Target features, those that must be the source's replaced by them.

        Args:
            target_ids: padded class ids, int64 ``[N, H, W]``.
            source_features: ``[1, C, h, w]`` a level, shallow to deep.
            target_features: ``[N, C, h, w]`` a level.
        """
        differs = (target_ids != self.source_ids).unsqueeze(1).float()
        exact = []
        for level, (source, target) in enumerate(zip(source_features, target_features, strict=True)):
            window, padding = FIRST_WINDOW if level == 0 else NEXT_WINDOW
            # Rows, then columns: the largest of a window in a fraction of the comparisons.
            rows = F.max_pool2d(differs, (window, 1), (2, 1), (padding, 0))
            differs = F.max_pool2d(rows, (1, window), (1, 2), (0, padding))
            exact.append(torch.where(differs > 0, target, source))
        return exact

"""Overlapping patches agree on pixels: the mode of what they say, not the mean, which would be a blur."""

import torch
from torch import Tensor

AGREEMENT = 0.03
"""How far two votes may differ and still support one another, in image units of [0, 1]."""

VOTING_ROUNDS = 4


def hann_weights(token: int) -> Tensor:
    """How much each of the 3x3 tokens around a token counts for each of its pixels, ``[9, token, token]``.

    A token's patch is three tokens wide and weighted by a Hann window.
    """
    positions = torch.arange(token) - (token - 1) / 2
    centres = torch.tensor([-1.0, 0.0, 1.0]) * token
    axis = (0.5 + 0.5 * torch.cos(2 * torch.pi * (positions - centres[:, None]) / (3 * token))).clamp_min(1e-3)
    return (axis[:, None, :, None] * axis[None, :, None, :]).flatten(0, 1)


def vote(image: Tensor, rows: Tensor, columns: Tensor, token: int) -> Tensor:
    """Copy overlapping patches and let them vote.

    Args:
        image: ``[3, H, W]`` in [0, 1].
        rows: each token's vertical offset to its source, int64 ``[H / token, W / token]``.
        columns: its horizontal offset.
        token: a token's side in pixels.

    Returns:
        ``[3, H, W]``.
    """
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pattern = hann_weights(token).repeat(1, height // token, width // token)
    votes = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            token_y = (y // token + dy).clamp(0, height // token - 1)
            token_x = (x // token + dx).clamp(0, width // token - 1)
            source_y = (y + rows[token_y, token_x]).clamp(0, height - 1)
            source_x = (x + columns[token_y, token_x]).clamp(0, width - 1)
            votes.append(image[:, source_y, source_x])
    values = torch.stack(votes)
    weights = pattern
    for _ in range(VOTING_ROUNDS + 1):
        result = (values * weights[:, None]).sum(0) / weights.sum(0)
        spread = (values - result).square().sum(1)
        weights = pattern * torch.exp(-spread / (2 * AGREEMENT**2)) + 1e-12
    return result

"""The losses of semantic image analogy (Li et al. 2020, section 3.4) but patch coherence."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.discriminator import Judgement
from training.generator import Translation


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def least_squares_real(judgement: Judgement) -> Tensor:
    """Least-squares GAN: how far the scores are from "real" (1), mean over the scales."""
    return _mean([((score - 1) ** 2).mean() for score in judgement.scores])


def least_squares_fake(judgement: Judgement) -> Tensor:
    """Least-squares GAN: how far the scores are from "fake" (0), mean over the scales."""
    return _mean([(score**2).mean() for score in judgement.scores])


def feature_matching(fake: Judgement, real: Judgement) -> Tensor:
    """L1 between the discriminator's features of two images of one size; no gradient into the real one."""
    pairs = zip(fake.features, real.features, strict=True)
    return _mean([F.l1_loss(ours, theirs.detach()) for ours, theirs in pairs])


def fixed_point(translation: Translation) -> Tensor:
    """Equal label maps translate nothing: L1 of every gamma to 1 and of every beta to 0."""
    scales = _mean([(gamma - 1).abs().mean() for gamma in translation.gammas])
    shifts = _mean([beta.abs().mean() for beta in translation.betas])
    return scales + shifts


def semantic_alignment(predicted_labels: Tensor, target_labels: Tensor) -> Tensor:
    """L1 between the labels that S sees in the output and the target's, both colours ``[N, 3, H, W]``.

    The public code takes it without gradients, so there it teaches nothing; here it reaches G.
    """
    return F.l1_loss(predicted_labels, target_labels)

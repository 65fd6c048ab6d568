"""The published generator (Li et al. 2020): networks, losses, trainer, weights from elsewhere."""

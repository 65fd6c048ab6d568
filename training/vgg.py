"""The first layers of VGG19, for patch coherence on learned features; weights come from the user's own file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from semia.files import sha256_of_file
from training.errors import SettingsError
from training.patch_coherence import FeatureMap, FeatureMaps, rgb_features
from training.state_dicts import read_state_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

WANTED = "a VGG19 state dict in torchvision's layout"


class VGG19Features(nn.Module):
    """Features at relu1_1 (compared in 3x3 patches) and relu2_1 (1x1), as published."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # The indices are torchvision's, so that its state dicts load by name.
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.ReLU(),
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Sequence[FeatureMap]:
        """Image ``[1, 3, H, W]`` in [-1, 1] to relu1_1 ``[1, 64, H, W]`` and relu2_1 ``[1, 128, H/2, W/2]``."""
        normalised = ((image + 1) / 2 - self.mean) / self.std
        relu1_1 = self.features[:2](normalised)
        relu2_1 = self.features[2:](relu1_1)
        return [FeatureMap(relu1_1, 3), FeatureMap(relu2_1, 1)]


def patch_features_from(weights: Path | None, device: torch.device) -> tuple[FeatureMaps, str]:
    """What patch coherence compares, and what a run's config calls it.

    Pixels (``rgb``), or, given a weights file, VGG19's features (called by the file's SHA-256).

    Raises:
        SettingsError: as `load_vgg19`.
    """
    if weights is None:
        return rgb_features, "rgb"
    return load_vgg19(weights).to(device), sha256_of_file(weights)


def load_vgg19(weights: Path) -> VGG19Features:
    """Load the layers we need from a VGG19 state dict in torchvision's layout.

    Raises:
        SettingsError: if the file is missing, is not a plain state dict, or lacks those layers.
    """
    state = read_state_dict(weights, noun="VGG19 weights", wanted=WANTED, error=SettingsError)
    network = VGG19Features()
    missing = [name for name in network.state_dict() if name not in state]
    if missing:
        raise SettingsError(f"{weights} has no {missing[0]}: give {WANTED}")
    try:
        network.load_state_dict({name: state[name] for name in network.state_dict()})
    except RuntimeError as error:
        raise SettingsError(f"{weights} holds the first layers of another network than VGG19") from error
    return network.eval()

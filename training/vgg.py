"""The first layers of VGG19, for patch coherence on learned features; weights come from the user's own file."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from training.errors import SettingsError
from training.patch_coherence import FeatureMap

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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


def load_vgg19(weights: Path) -> VGG19Features:
    """Load the layers we need from a VGG19 state dict in torchvision's layout.

    Raises:
        SettingsError: if the file is missing, is not a plain state dict, or lacks those layers.
    """
    network = VGG19Features()
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict({name: state[name] for name in network.state_dict()})
    except FileNotFoundError:
        raise SettingsError(f"no VGG19 weights at {weights}") from None
    except KeyError as error:
        raise SettingsError(f"{weights} has no {error}: give a VGG19 state dict in torchvision's layout") from error
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingsError(f"cannot load VGG19 weights from {weights}: {reason}") from error
    return network.eval()

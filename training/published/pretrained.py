"""Weights from files that users bring: published SemIA generators and VGG19, loaded as data, never as code.

The public code (SemIA, MIT; Li et al. 2020) keeps the same network under other names, with spectral norms as
PyTorch's classic triples ``weight_orig``, ``weight_u``, ``weight_v``. Names are translated from ours to theirs,
so that whatever is missing or left over can be called what the file calls it.
"""

import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from semia.core.files import sha256_of_file
from semia.training.errors import CheckpointError, SettingsError, TrainingError
from semia.training.published.generator import Generator
from semia.training.published.losses import FeatureMap, FeatureMaps, rgb_features

UNREAD_PREFIX = "encoder_c.tail_block."
"""The label encoder's last block: every published checkpoint has it, and nothing there reads its output."""

FIRST_WEIGHT = "encoder_c.head_block.main.1.weight_orig"
"""The label encoder's first convolution; its output channels are the generator's width."""

MAX_DEPTH = 8
MAX_CHANNELS = 2048
"""What a file may ask for before memory is taken for it; the published network has depth 3 and 256 channels."""

_LEVEL = re.compile(r"encoder_c\.down_block\.(\d{1,4})\.")

_PUBLIC_NAMES = (
    (r"^label_encoder\.", "encoder_c."),
    (r"^image_encoder\.", "encoder_i."),
    (r"^decoder\.", "decoder_i."),
    (r"^gamma_heads\.(\d+)\.body\.", r"FiLM_c2i_alpha.bottlenecks.\1."),
    (r"^beta_heads\.(\d+)\.body\.", r"FiLM_c2i_beta.bottlenecks.\1."),
    (r"(\.bottlenecks\.\d+\.0)\.body\.", r"\1.conv_block."),
    (r"\.(head|tail)\.", r".\1_block.main."),
    (r"\.(down|up)s\.(\d+)\.0\.body\.", r".\1_block.\2.res_block.conv_block."),
    (r"\.parametrizations\.weight\.original$", ".weight_orig"),
    (r"\.parametrizations\.weight\.0\._([uv])$", r".weight_\1"),
)
"""Patterns in our names and what the public code writes in their place, applied one after another."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

WANTED = "a VGG19 state dict in torchvision's layout"


def read_state_dict(path: Path, *, noun: str, wanted: str, error: type[TrainingError]) -> dict[str, Tensor]:
    """Read a file of named tensors, onto the CPU.

    Raises:
        TrainingError: of the type ``error``, if the file is missing, broken, or holds anything but tensors by name; the
            message calls it a ``noun``, and says which file is ``wanted``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch remarks about a file's pickle protocol helps nobody
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise error(f"no {noun} at {path}") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder: give {wanted}") from None
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as reason:
        # PyTorch's own message would advise to load it as code.
        raise error(f"cannot load {path}: it is broken or not a plain state dict; give {wanted}") from reason
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise error(f"{path} is not a state dict of tensors: give {wanted}")
    return state


def read_published_generator(path: Path) -> Generator:
    """Read a published generator, in inference mode, float32, onto the CPU; its tensors tell width and depth.

    The file is a state dict of CPU or GPU tensors as ``torch.save`` writes it, loaded as data, never as code.

    Raises:
        CheckpointError: if the file is missing or broken, is no such state dict, lacks an entry, has one too many,
            or one has another shape or type or impossible values.
    """
    state = read_state_dict(path, noun="checkpoint", wanted="a published latest_net_G.pth", error=CheckpointError)
    width, depth = _architecture(state, path)
    generator = Generator(width, depth)
    expected = generator.state_dict()
    _check_names({public_name(name) for name in expected}, state, path)
    for name, tensor in expected.items():
        _check_tensor(public_name(name), state[public_name(name)], tensor, path)
    generator.load_state_dict({name: state[public_name(name)] for name in expected})
    _check_norms(generator.eval(), path)
    return generator.requires_grad_(False)


def public_name(name: str) -> str:
    """The public code's name for an entry of our generator's state dict."""
    for pattern, replacement in _PUBLIC_NAMES:
        name = re.sub(pattern, replacement, name)
    # Our down and up blocks count on after the residual block, which theirs keep apart.
    return re.sub(
        r"\.(down|up)s\.(\d+)\.(\d+)\.", lambda found: f".{found[1]}_block.{found[2]}.main.{int(found[3]) - 1}.", name
    )


def _architecture(state: dict[str, Tensor], path: Path) -> tuple[int, int]:
    """Width b and depth n, checked before any memory is taken for them."""
    levels = {int(found[1]) for name in state if (found := _LEVEL.match(name))}
    if FIRST_WEIGHT not in state or state[FIRST_WEIGHT].ndim != 4 or not levels:
        raise CheckpointError(f"{path} is not a published SemIA generator: it has no {FIRST_WEIGHT}")
    width, depth = state[FIRST_WEIGHT].shape[0], max(levels) + 1
    if width < 1 or width % 4 or depth > MAX_DEPTH or width << depth > MAX_CHANNELS:
        raise CheckpointError(
            f"{path} asks for width {width} and depth {depth}: the width must be a multiple of 4, the depth at most "
            f"{MAX_DEPTH}, and width x 2^depth at most {MAX_CHANNELS}"
        )
    return width, depth


def _check_names(expected: set[str], state: dict[str, Tensor], path: Path) -> None:
    missing = sorted(expected - state.keys())
    if missing:
        raise CheckpointError(f"{path} lacks {_some(missing)} of a published SemIA generator")
    surplus = sorted(name for name in state.keys() - expected if not name.startswith(UNREAD_PREFIX))
    if surplus:
        raise CheckpointError(f"{path} has {_some(surplus)}, which no published SemIA generator has")


def _check_tensor(name: str, tensor: Tensor, expected: Tensor, path: Path) -> None:
    if tensor.shape != expected.shape:
        shapes = f"{list(tensor.shape)}, not {list(expected.shape)}"
        raise CheckpointError(f"{path}: {name} has shape {shapes}")
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.is_complex() or tensor.is_floating_point() != expected.is_floating_point():
        raise CheckpointError(f"{path}: {name} is {tensor.dtype}, not plain {expected.dtype} numbers")
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{path}: {name} holds values that are not finite")


def _check_norms(generator: Generator, path: Path) -> None:
    """Refuse what would only show as pictures of nothing: weights divided by 0, roots of negative variances."""
    for name, layer in generator.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and not torch.isfinite(layer.weight).all():
            weight = public_name(f"{name}.parametrizations.weight.original")
            raise CheckpointError(f"{path}: the spectral norm of {weight} is 0")
        if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None and layer.running_var.min() < 0:
            raise CheckpointError(f"{path}: {public_name(f'{name}.running_var')} is negative")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more entries"


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
        normalized = ((image + 1) / 2 - self.mean) / self.std
        relu1_1 = self.features[:2](normalized)
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

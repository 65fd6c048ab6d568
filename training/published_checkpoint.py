"""Reading a published SemIA generator: ``latest_net_G.pth``, a state dict under the public code's names.

The public code (SemIA, MIT; Li et al. 2020) keeps the same network under other names, with spectral norms as
PyTorch's classic triples ``weight_orig``, ``weight_u``, ``weight_v``. Names are translated from ours to theirs,
so that whatever is missing or left over can be called what the file calls it.
"""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from training.errors import CheckpointError
from training.generator import Generator
from training.state_dicts import read_state_dict

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


def read_published_generator(path: Path) -> Generator:
    """Read a published generator; width and depth are told from its tensors.

    Args:
        path: a state dict of CPU or GPU tensors as ``torch.save`` writes it; loaded as data, never as code.

    Returns:
        The generator in inference mode, float32, on the CPU.

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

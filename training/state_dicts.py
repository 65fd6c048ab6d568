"""State dicts from files that users bring: loaded as data, never as code."""

import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor

from training.errors import TrainingError


def read_state_dict(path: Path, *, noun: str, wanted: str, error: type[TrainingError]) -> dict[str, Tensor]:
    """Read a file of named tensors, onto the CPU.

    Args:
        path: the file.
        noun: what messages call what is in it, such as "checkpoint".
        wanted: which file to give instead, such as "a published latest_net_G.pth".
        error: what is raised.

    Raises:
        TrainingError: of the type ``error``, if the file is missing, broken, or holds anything but tensors by name.
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

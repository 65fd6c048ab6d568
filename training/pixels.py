"""The one place where pixels become network values and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semia.palette import Palette


def tensor_from_picture(picture: NDArray[np.uint8]) -> Tensor:
    """``uint8[H, W, 3]`` as float32 ``[1, 3, H, W]`` in [-1, 1]."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1.0


def pixels_from_tensor(image: Tensor) -> Tensor:
    """``[N, 3, H, W]`` in [-1, 1] as ``uint8[N, H, W, 3]``: clamped, then rounded, so that nothing wraps."""
    levels = (image.float().clamp(-1.0, 1.0) + 1.0) * 127.5
    # Bytes last: TensorRT transposes none.
    return levels.round().permute(0, 2, 3, 1).to(torch.uint8)


def picture_from_tensor(image: Tensor) -> NDArray[np.uint8]:
    """One image ``[1, 3, H, W]`` in [-1, 1] as ``uint8[H, W, 3]``."""
    picture: NDArray[np.uint8] = pixels_from_tensor(image)[0].cpu().numpy()
    return picture


def palette_tensor(palette: Palette) -> Tensor:
    """The palette as float32 ``[K, 3]`` in [-1, 1]."""
    return torch.from_numpy(palette.array.copy()).float() / 127.5 - 1.0


def colours_from_ids(class_ids: Tensor, palette: Tensor) -> Tensor:
    """Integer class ids ``[N, H, W]`` as colours ``[N, 3, H, W]`` in [-1, 1], looked up in `palette_tensor`."""
    return palette[class_ids.long()].permute(0, 3, 1, 2)

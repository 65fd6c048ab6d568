"""A scene on a device: pixels as network values and back, padded to what the networks can halve."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semia.core.labels import Canvas, ClassIds
from semia.core.palette import Palette
from semia.training.scene import Scene


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


def colors_from_ids(class_ids: Tensor, palette: Tensor) -> Tensor:
    """Integer class ids ``[N, H, W]`` as colors ``[N, 3, H, W]`` in [-1, 1], looked up in `palette_tensor`."""
    return palette[class_ids.long()].permute(0, 3, 1, 2)


def padded_length(length: int, multiple: int) -> int:
    """The least multiple that is not below ``length``."""
    return -(-length // multiple) * multiple


def edge_indices(length: int, multiple: int, device: torch.device | None = None) -> Tensor:
    """Indices int64 ``[padded_length]`` that extend a row of pixels by repeating its last one."""
    return torch.arange(padded_length(length, multiple), device=device).clamp(max=length - 1)


def pad(values: Tensor, multiple: int) -> Tensor:
    """``[..., H, W]`` extended right and down to multiples, repeating the last row and column."""
    rows = edge_indices(values.shape[-2], multiple, values.device)
    columns = edge_indices(values.shape[-1], multiple, values.device)
    return values.index_select(-2, rows).index_select(-1, columns)


@dataclass(frozen=True)
class SceneTensors:
    """A scene's constants; H and W are the padded canvas's."""

    image: Tensor  # float32 [1, 3, H, W] in [-1, 1]
    class_ids: Tensor  # int64 [1, H, W]
    palette: Tensor  # float32 [K, 3] in [-1, 1]
    canvas: Canvas  # before padding
    multiple: int  # H and W are multiples of it

    @classmethod
    def from_scene(cls, scene: Scene, multiple: int, device: torch.device) -> "SceneTensors":
        """Pad a scene and put it on a device."""
        return cls(
            image=pad(tensor_from_picture(scene.image), multiple).to(device),
            class_ids=pad(torch.from_numpy(scene.labels.astype(np.int64)).unsqueeze(0), multiple).to(device),
            palette=palette_tensor(scene.palette).to(device),
            canvas=scene.canvas,
            multiple=multiple,
        )

    @property
    def labels(self) -> Tensor:
        """The source's labels as colors, float32 ``[1, 3, H, W]`` in [-1, 1]."""
        return self.colors(self.class_ids)

    def colors(self, class_ids: Tensor) -> Tensor:
        """Class ids ``[N, H, W]`` as colors ``[N, 3, H, W]``."""
        return colors_from_ids(class_ids, self.palette)

    def target_ids(self, ids: ClassIds) -> Tensor:
        """A target layout ``uint8[h, w]`` on the canvas as padded int64 ``[1, H, W]``."""
        return pad(torch.from_numpy(ids.astype(np.int64)).unsqueeze(0), self.multiple).to(self.image.device)

    def crop(self, image: Tensor) -> Tensor:
        """Cut the padding off ``[N, C, H, W]``."""
        return image[..., : self.canvas.height, : self.canvas.width]

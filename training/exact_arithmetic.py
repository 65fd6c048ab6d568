"""Sums that no machine rounds: values on a grid coarse enough that float32 holds every partial sum exactly.

A choice between nearly equal costs must not depend on the order in which a library happens to add.
"""

from torch import Tensor


def on_grid(x: Tensor, steps: float) -> Tensor:
    """Round to multiples of ``1 / steps``, a power of two: ties to even, as ONNX rounds."""
    return (x * steps).round() / steps

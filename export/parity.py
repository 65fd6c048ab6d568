"""Does the exported graph draw what PyTorch draws? Measured on real label maps, in 8-bit levels."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from export.errors import ExportError, ParityError, first_line
from semia.images import RGB
from semia.labels import ClassIds
from semia.model_card import INPUT_NAME, OUTPUT_NAME, TargetParity


def measure_parity(
    model: Path, render: Callable[[ClassIds], RGB], targets: Mapping[str, ClassIds]
) -> tuple[TargetParity, ...]:
    """Run ``model.onnx`` in ONNX Runtime on the CPU beside another renderer, on every target.

    Raises:
        ExportError: if ONNX Runtime cannot load or run the graph, or the other renderer fails.
    """
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        results = []
        for stem, ids in targets.items():
            (pictures,) = session.run([OUTPUT_NAME], {INPUT_NAME: ids[np.newaxis]})
            results.append(compare(stem, render(ids), pictures[0]))
    except ExportError:  # the other renderer's own
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ExportError(f"ONNX Runtime cannot run the exported graph: {first_line(error)}") from error
    return tuple(results)


def compare(target: str, drawn: RGB, expected: RGB) -> TargetParity:
    """How far pictures ``uint8[..., H, W, 3]`` are from others, under a target's name."""
    difference = np.abs(drawn.astype(np.int16) - expected.astype(np.int16))
    return TargetParity(target, int(difference.max()), round(float(difference.mean()), 6))


def check_parity(parity: tuple[TargetParity, ...], tolerance: int, reference: str = "PyTorch") -> None:
    """Refuse an export that differs from its reference by more than ``tolerance`` levels anywhere.

    Raises:
        ParityError: naming every target beyond the tolerance.
    """
    beyond = [f"{entry.target} by {entry.max_abs}" for entry in parity if entry.max_abs > tolerance]
    if beyond:
        raise ParityError(
            f"its pictures differ from {reference}'s by more than {tolerance} of 255: {', '.join(beyond)}; "
            "nothing was exported (--tolerance allows more)"
        )

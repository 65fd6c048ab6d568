"""A bundle's graph as TensorRT's parser can take it: the same arithmetic, without the types TensorRT lacks inside.

TensorRT knows no 16-bit integers, and unsigned bytes only at a network's inputs and outputs, where a ``Cast``
must stand. Exported graphs have them there, and in stored tables.
"""

from pathlib import Path

import onnx
import onnx_ir as ir
from onnxscript.optimizer import fold_constants, remove_unused_nodes

LARGEST_TABLE = 1 << 30
"""Elements of a table that may be computed beforehand: however large."""


def tensorrt_model(path: Path) -> onnx.ModelProto:
    """Load ``model.onnx`` and compute what depends on stored tables alone, as ONNX Runtime does when it loads a graph.

    This leaves tables wide, and no operator on narrow ones.
    """
    program = ir.load(path)
    # Exporting folds small tables only.
    fold_constants(program, input_size_limit=LARGEST_TABLE, output_size_limit=LARGEST_TABLE)
    remove_unused_nodes(program)
    model = ir.to_proto(program)
    # What the exporter noted about tensors that are no more.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model

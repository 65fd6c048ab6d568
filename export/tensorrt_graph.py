"""A bundle's graph as TensorRT's parser can take it: the same arithmetic, without the types TensorRT lacks inside.

TensorRT knows no 16-bit integers, and unsigned bytes only at a network's inputs and outputs, where a ``Cast``
must stand. ONNX Runtime, which knows them, computes the same things beforehand when it loads a graph.
"""

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import NodeProto
from onnxscript.optimizer import fold_constants, remove_unused_nodes

LARGEST_TABLE = 1 << 30
"""Elements of a table that may be computed beforehand: however large."""


def tensorrt_model(path: Path) -> onnx.ModelProto:
    """Load ``model.onnx`` and rewrite what TensorRT's parser would refuse.

    - what depends on stored tables alone is computed, which leaves them wide, and no operator on them;
    - the input's size is asked of what its ``Cast`` gives, not of the bytes;
    - pixels are transposed before they become bytes, not after.
    """
    program = ir.load(path)
    # Exporting folds small tables only.
    fold_constants(program, input_size_limit=LARGEST_TABLE, output_size_limit=LARGEST_TABLE)
    remove_unused_nodes(program)
    model = ir.to_proto(program)
    graph = model.graph
    nodes = _measured_after_cast(list(graph.node), {value.name for value in graph.input})
    nodes = _bytes_last(nodes, {value.name for value in graph.output})
    del graph.node[:]
    graph.node.extend(nodes)
    # What the exporter noted about tensors that are no more, or have another type now.
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _measured_after_cast(nodes: list[NodeProto], inputs: set[str]) -> list[NodeProto]:
    casts = {node.input[0]: node for node in nodes if node.op_type == "Cast" and node.input[0] in inputs}
    for node in nodes:
        if node.op_type == "Shape" and node.input[0] in casts:
            node.input[0] = casts[node.input[0]].output[0]
    first = {cast.output[0] for cast in casts.values()}
    # Nodes are listed in the order of their execution; these come before whatever measures them.
    return [*casts.values(), *(node for node in nodes if node.output[0] not in first)]


def _bytes_last(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """``Cast`` to bytes, ``Transpose``: the other way round."""
    by_output = {name: node for node in nodes for name in node.output}
    for transpose in nodes:
        cast = by_output.get(transpose.input[0]) if transpose.op_type == "Transpose" else None
        if cast is None or cast.op_type != "Cast" or transpose.output[0] not in outputs:
            continue
        between, (output,) = cast.output[0], transpose.output
        transpose.input[0], transpose.output[0] = cast.input[0], between
        cast.input[0], cast.output[0] = between, output
        rest = [node for node in nodes if node.output[0] not in (between, output)]
        return [*rest, transpose, cast]
    return nodes

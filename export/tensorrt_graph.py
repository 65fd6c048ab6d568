"""A bundle's graph as TensorRT's parser can take it: the same arithmetic, without the types TensorRT lacks inside.

TensorRT knows no 16-bit integers, and unsigned bytes only at a network's inputs and outputs, where a ``Cast``
must stand. What a graph stores in them is widened here; ONNX Runtime does that by itself, when it loads a graph.
"""

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

STORED_ONLY = (TensorProto.INT16, TensorProto.UINT8)
"""Types of stored tables that TensorRT cannot read."""


def tensorrt_model(path: Path) -> onnx.ModelProto:
    """Load ``model.onnx`` and rewrite what TensorRT's parser would refuse.

    - stored integers that a ``Cast`` widens are stored wide;
    - the input's size is asked of what its ``Cast`` gives, not of the bytes;
    - pixels are transposed before they become bytes, not after.
    """
    model = onnx.load(path)
    graph = model.graph
    nodes = _without_casts_of_tables(graph)
    nodes = _measured_after_cast(nodes, {value.name for value in graph.input})
    nodes = _bytes_last(nodes, {value.name for value in graph.output})
    del graph.node[:]
    graph.node.extend(nodes)
    # What the exporter noted about tensors that are no more, or have another type now.
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _without_casts_of_tables(graph: onnx.GraphProto) -> list[NodeProto]:
    tables = {table.name: table for table in graph.initializer if table.data_type in STORED_ONLY}
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in tables:
            values = numpy_helper.to_array(tables[node.input[0]])
            dtype = helper.tensor_dtype_to_np_dtype(_target_type(node))
            graph.initializer.append(numpy_helper.from_array(values.astype(dtype), node.output[0]))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [table for table in graph.initializer if table.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return nodes


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


def _target_type(cast: NodeProto) -> int:
    (to,) = (attribute.i for attribute in cast.attribute if attribute.name == "to")
    return int(to)

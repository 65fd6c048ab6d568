"""What TensorRT's ONNX parser takes, by NVIDIA's published list, and what in a graph is beyond it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, defs, helper, numpy_helper

PUBLISHED = json.loads(Path(__file__).with_name("operators.json").read_text(encoding="utf-8"))
"""The rows of the list that graphs like ours may need; source and version stand in the file."""

LARGEST_TOPK = 3840
AXES_INPUT = {"Squeeze": 1, "Unsqueeze": 1} | {name: 1 for name in PUBLISHED["operators"] if name.startswith("Reduce")}
"""Which input holds the axes that TensorRT must know when it builds."""

Constants = Mapping[str, NDArray[np.generic]]


def offences(model: onnx.ModelProto) -> list[str]:
    """What the list does not have: an operator, a type of its data, or a form; each once, sorted."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    constants = {table.name: numpy_helper.to_array(table) for table in graph.initializer}
    constants |= {node.output[0]: _value(node) for node in graph.node if node.op_type == "Constant"}
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in constants.items()}
    edges = {value.name for value in (*graph.input, *graph.output)}
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    found: set[str] = set()
    if not PUBLISHED["opsets"][0] <= opset <= PUBLISHED["opsets"][1]:
        found.add(f"opset {opset}")
    for node in graph.node:
        if node.op_type not in PUBLISHED["operators"]:
            found.add(f"{node.op_type}: not listed")
            continue
        for name in _data(node, opset):
            kind = TensorProto.DataType.Name(types[name])
            if kind not in PUBLISHED["operators"][node.op_type].split():
                found.add(f"{node.op_type} of {kind}")
            elif kind == "UINT8" and name not in edges:
                found.add(f"{node.op_type} of {kind} inside the network")
        found |= {f"{node.op_type}: {form}" for form in _forms(node, constants)}
    return sorted(found)


def as_onnx_runtime_partitions(path: Path) -> onnx.ModelProto:
    """A graph after the rewriting that ONNX Runtime does before it asks TensorRT which parts it takes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    rewritten = path.with_name("partitioned.onnx")
    options.optimized_model_filepath = str(rewritten)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(rewritten)


def _value(constant: NodeProto) -> NDArray[np.generic]:
    value = helper.get_attribute_value(constant.attribute[0])
    array: NDArray[np.generic] = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.array(value)
    return array


def _data(node: NodeProto, opset: int) -> Iterator[str]:
    """The tensors whose types the list restricts: sizes, axes, indices and truth values it leaves alone."""
    schema = defs.get_schema(node.op_type, opset, "")
    for names, parameters in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(names):
            parameter = parameters[min(index, len(parameters) - 1)]  # the last may stand for many
            if name and (parameter.type_str == "T" or node.op_type in {"Cast", "CastLike", "Constant"}):
                yield name


def _forms(node: NodeProto, constants: Constants) -> Iterator[str]:
    """The list's restrictions on form, of the operators that we use or might."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = AXES_INPUT.get(node.op_type)
    if axes is not None and len(node.input) > axes and node.input[axes] and node.input[axes] not in constants:
        yield "axes are computed"
    if node.op_type in {"MaxPool", "AveragePool"}:
        if any(step != 1 for step in attributes.get("dilations", [])):
            yield "dilated"
        if len(node.output) > 1:
            yield "asked for indices"
    if node.op_type == "TopK" and int(constants.get(node.input[1], np.array(LARGEST_TOPK)).item()) >= LARGEST_TOPK:
        yield "K is too large or computed"
    if node.op_type == "ScatterND" and attributes.get("reduction", b"none") != b"none":
        yield "reducing"

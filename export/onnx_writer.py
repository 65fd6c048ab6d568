"""A synthesis graph as one self-contained ONNX file; each node keeps the stage it belongs to in its metadata."""

import ast
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
import torch.fx.traceback
from onnxscript.optimizer import fold_constants, inline, remove_unused_nodes
from torch.onnx import ONNXProgram

from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.export.errors import ExportError, first_line
from semia.export.graphs import SceneGraph
from semia.training.base import STAGE_KEY

STAGE_PROPERTY = "semia.stage"  # the key of a node's ``metadata_props`` that holds its stage
NO_STAGE = "other"  # where neither a node nor any of its neighbors belongs to a stage

SCOPES_PROPERTY = "pkg.torch.onnx.name_scopes"
"""The exporter's own: the modules around a node, then the name of the traced node that it was made of."""

OPSET = 20  # the ONNX operator set: the newest that PyTorch's exporter targets by default

LARGEST_FOLDED = 4096
"""Numbers of a constant that is worked out at export; larger ones a runtime works out when it loads the graph."""

TRACED_BATCH = 2  # any batch above 1: the exporter takes sizes 0 and 1 for constants

TRAINING_OPERATORS = {"BatchNormalization", "Dropout"}
"""Operators that are folded away before export; one that is left would compute something else at inference."""


def label_nodes(program: ONNXProgram) -> None:
    """Write the stages of traced nodes into the metadata of the nodes made of them.

    They take the place of what the exporter notes there: paths of this machine.
    """
    assert program.exported_program is not None
    traced = program.exported_program.graph.nodes
    stages = {node.name: node.meta.get("custom", {}).get(STAGE_KEY) for node in traced}
    for node in program.model.graph.all_nodes():
        scopes = node.metadata_props.get(SCOPES_PROPERTY)
        node.metadata_props.clear()
        if scopes is not None and (name := stages.get(ast.literal_eval(scopes)[-1])):
            node.metadata_props[STAGE_PROPERTY] = name


def stages_of(graph: onnx.GraphProto, known: Mapping[int, str] | None = None) -> list[str]:
    """The stage of each node, in the graph's order, which must be topological.

    A node without one of its own, inserted by a converter or by ONNX Runtime, belongs with the node that it takes
    its first labelled input from, or else with the first labelled one that takes from it. Beside the stages that the
    metadata names, some may be ``known`` by the node's number.
    """
    named = ({entry.key: entry.value for entry in node.metadata_props} for node in graph.node)
    own = [properties.get(STAGE_PROPERTY, "") for properties in named]
    for number, name in (known or {}).items():
        own[number] = name
    of_value: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        name = own[number] or _first(of_value, node.input)
        if name:
            own[number] = name
            of_value.update(dict.fromkeys(node.output, name))
    wanted: dict[str, str] = {}
    for number in reversed(range(len(own))):
        name = own[number] or _first(wanted, graph.node[number].output)
        own[number] = name or NO_STAGE
        if name:
            wanted.update(dict.fromkeys(graph.node[number].input, name))
    return own


def _first(stages: Mapping[str, str], values: Sequence[str]) -> str:
    return next((stages[value] for value in values if value in stages), "")


def write_onnx(graph: SceneGraph, path: Path, opset: int = OPSET) -> None:
    """Export a synthesis graph, in the given ONNX operator set, and check the file, or raise an ExportError."""
    example = torch.zeros(TRACED_BATCH, *graph.canvas, dtype=torch.uint8)
    try:
        # Stages are annotations of the traced nodes, which tracing drops unless told otherwise.
        with _quiet(), torch.fx.traceback.preserve_node_meta():
            program = torch.onnx.export(
                graph.eval(),
                (example,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                opset_version=opset,
                dynamo=True,
                # Its rewriting rules need minutes for the thousands of nodes of a matching, and ONNX Runtime fuses
                # by itself; what it has no kernel for (CastLike) goes by folding constants.
                optimize=False,
                dynamic_shapes={"target_labels": {0: torch.export.Dim("batch", min=1, max=1024)}},
            )
            if program is None:
                raise RuntimeError("the exporter gave no program")
            inline(program.model)
            label_nodes(program)
            fold_constants(program.model, output_size_limit=LARGEST_FOLDED)
            remove_unused_nodes(program.model)
            _read_shape_after_cast(program.model)
            program.save(path, external_data=False)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise ExportError(f"cannot export to ONNX: {first_line(error)}") from error
    _check_contract(model, graph)


def _read_shape_after_cast(model: ir.Model) -> None:
    """Ask the input's size of what its ``Cast`` gives.

    TensorRT casts bytes and does nothing else with them. Of a graph with anything else, ONNX Runtime would give it
    several parts, and then refuse the batch sizes that the input alone is described by.
    """
    for value in model.graph.inputs:
        cast = next((node for node in value.consumers() if node.op_type == "Cast"), None)
        if cast is None:
            continue
        for node, index in tuple(value.uses()):
            if node.op_type == "Shape":
                node.replace_input_with(index, cast.outputs[0])
        # Nodes are listed in the order of their execution.
        model.graph.remove(cast)
        model.graph.insert_before(model.graph[0], cast)


def _check_contract(model: onnx.ModelProto, graph: SceneGraph) -> None:
    """What every served model promises: names, types and sizes, and no operator that belongs to training."""
    height, width = graph.canvas
    signature = {INPUT_NAME: [height, width], OUTPUT_NAME: [height, width, 3]}
    for value in [*model.graph.input, *model.graph.output]:
        tensor = value.type.tensor_type
        sizes = [dimension.dim_value for dimension in tensor.shape.dim]
        # The batch is symbolic, so its size reads 0.
        if tensor.elem_type != onnx.TensorProto.UINT8 or sizes != [0, *signature.get(value.name, [])]:
            raise ExportError(f"the exported graph's {value.name!r} is {sizes}, not uint8 [N, {signature}]")
    leftover = {node.op_type for node in model.graph.node} & TRAINING_OPERATORS
    if leftover:
        raise ExportError(f"the exported graph still holds {', '.join(sorted(leftover))}: they were to be folded away")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps on stdout and its own deprecations as warnings; a user can act on neither."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)

"""Which stage of the synthesis each node of an exported graph belongs to, kept in the node's metadata."""

import ast
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir
from torch.onnx import ONNXProgram

from training.stages import STAGE_KEY

STAGE_PROPERTY = "semia.stage"
"""The key of a node's ``metadata_props`` that holds its stage."""

NO_STAGE = "other"
"""Where neither a node nor any of its neighbours belongs to a stage."""

SCOPES_PROPERTY = "pkg.torch.onnx.name_scopes"
"""The exporter's own: the modules around a node, then the name of the traced node that it was made of."""


def traced_stages(program: ONNXProgram) -> dict[str, str]:
    """The stage of every traced node that has one, by the node's name."""
    assert program.exported_program is not None
    nodes = program.exported_program.graph.nodes
    return {node.name: name for node in nodes if (name := node.meta.get("custom", {}).get(STAGE_KEY))}


def label_nodes(model: onnx_ir.Model, stages: Mapping[str, str]) -> None:
    """Write stages into the nodes' metadata, in place of what the exporter notes there: paths of this machine.

    Args:
        model: as the exporter gave it.
        stages: what `traced_stages` found.
    """
    for node in model.graph.all_nodes():
        scopes = node.metadata_props.get(SCOPES_PROPERTY)
        node.metadata_props.clear()
        if scopes is not None and (name := stages.get(ast.literal_eval(scopes)[-1])):
            node.metadata_props[STAGE_PROPERTY] = name


def stages_of(graph: onnx.GraphProto, known: Mapping[int, str] | None = None) -> list[str]:
    """The stage of each node, in the graph's order.

    A node without one of its own, inserted by a converter or by ONNX Runtime, belongs with the node that it takes
    its first labelled input from, or else with the first labelled one that takes from it.

    Args:
        graph: its nodes in topological order.
        known: stages by the node's number, beside those that the metadata names.
    """
    own = [_stage_of(node) for node in graph.node]
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


def _stage_of(node: onnx.NodeProto) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == STAGE_PROPERTY), "")


def _first(stages: Mapping[str, str], values: Sequence[str]) -> str:
    return next((stages[value] for value in values if value in stages), "")

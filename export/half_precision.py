"""Half precision inside the graph: which parts of the published generator survive it, and casts around them.

TensorRT takes a graph's types as they are, so everything is said in the graph. In float32 stay

- the label encoder and the feature ratio: a ratio whose denominator is almost 0 shows how each was rounded;
- the heads that read ratios, unless those are limited: they reach far beyond what float16 can hold;
- modulation: statistics over a whole picture, and gammas as large as the ratios.

Where ratios are not limited, what modulation hands on is itself beyond float16: 94,500 on a trained checkpoint, many
millions on an untrained network. It is divided by a power of two until it is modulated again (`float16_range`).
"""

import copy
from collections.abc import Sequence

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.float16_range import Range, Rescale, measure_ranges, multiply_biases
from export.synthesis_graph import SynthesisGraph
from semia.labels import ClassIds
from training.generator import Generator

BFLOAT16_OPSET = 22
"""The first ONNX operator set whose convolutions take bfloat16."""

HALF_TYPES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Cast(nn.Module):
    """A change of type, said in the graph."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Any floating type to this one."""
        return x.to(self.dtype)


def half_precision_graph(graph: SynthesisGraph, dtype: torch.dtype, layouts: Sequence[ClassIds]) -> SynthesisGraph:
    """A copy of a synthesis graph most of which computes in ``torch.float16`` or ``torch.bfloat16``.

    Args:
        graph: the float32 graph.
        dtype: which of the two.
        layouts: ``uint8[H, W]`` each, such as will be drawn: where ratios have no limit, they tell what range of
            values float16 must hold.
    """
    lowered = copy.deepcopy(graph).eval()
    generator = lowered.generator
    chains = _between_modulations(lowered.levels)
    ranges: list[Range | None] = [None] * len(chains)
    if dtype == torch.float16 and generator.ratio_limit is None:
        parts = [[generator.get_submodule(name) for name in chain] for chain in chains]
        ranges = [*measure_ranges(lowered, parts, layouts)]
    heads = ["beta_heads"] if generator.ratio_limit is None else ["beta_heads", "gamma_heads"]
    for chain, values in zip(chains, ranges, strict=True):
        _lower(generator, chain, dtype, values)
    for head in heads:
        for level in range(lowered.levels):
            _lower(generator, [f"{head}.{level}"], dtype)
    return lowered


def _between_modulations(levels: int) -> list[list[str]]:
    """The parts of a generator that follow one another without a modulation: nothing is cast between them.

    The first level's features are a constant of the graph: their encoder is not part of it.
    """
    downs = [[f"image_encoder.downs.{level}"] for level in range(1, levels)]
    ups = [[f"decoder.ups.{level}"] for level in range(levels)]
    ups[-1].append("decoder.tail")
    return [*downs, ["image_encoder.tail", "decoder.head"], *ups]


def _lower(generator: Generator, chain: list[str], dtype: torch.dtype, values: Range | None = None) -> None:
    """Let parts that follow one another compute in another type, float32 entering and leaving."""
    before: list[nn.Module] = [Cast(dtype)]
    after: list[nn.Module] = [Cast(torch.float32)]
    if values is not None:
        before.insert(0, Rescale(values.factor, values.limit))
        after.append(Rescale(1 / values.factor))
    for name in chain:
        part = generator.get_submodule(name)
        if values is not None:
            multiply_biases(part, values.factor)
        layers = [*(before if name == chain[0] else []), part.to(dtype), *(after if name == chain[-1] else [])]
        generator.set_submodule(name, nn.Sequential(*layers))


def rounded_in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A half-precision graph's arithmetic for a runtime without half-precision kernels.

    Every operator computes in float32, and its result is rounded to the type it should have, as an operator
    that accumulates in float32 does. (On the CPU, ONNX Runtime has no bfloat16 kernels; a float16 graph it
    computes in float32 throughout, where nothing would ever be rounded or overflow.)
    """
    emulated = onnx.shape_inference.infer_shapes(model)
    graph = emulated.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes = []
    for node in list(graph.node):
        if node.op_type in ("Cast", "Constant"):
            nodes.append(node)
            continue
        after = []
        for index, name in enumerate(node.input):
            if types.get(name) in HALF_TYPES:
                wide = f"{name}_for_{node.name}_{index}"
                nodes.append(helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT))
                node.input[index] = wide
        for index, name in enumerate(node.output):
            if types.get(name) in HALF_TYPES:
                node.output[index] = f"{name}_wide"
                after.append(helper.make_node("Cast", [f"{name}_wide"], [name], to=types[name]))
        nodes += [node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return emulated

"""Half precision inside the graph: which parts of the published generator survive it, and casts around them.

TensorRT takes a graph's types as they are, so everything is said in the graph. In float32 stay

- the label encoder and the feature ratio: a ratio whose denominator is almost 0 shows how each was rounded;
- the heads that read ratios, unless those are limited: they reach far beyond what float16 can hold;
- modulation: statistics over a whole picture, and gammas as large as the ratios.

Where ratios are not limited, what modulation hands on can itself be beyond float16: such a generator has no
float16 form, and its pictures show it.
"""

import copy

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.synthesis_graph import SynthesisGraph

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


def half_precision_graph(graph: SynthesisGraph, dtype: torch.dtype) -> SynthesisGraph:
    """A copy of a synthesis graph most of which computes in ``torch.float16`` or ``torch.bfloat16``."""
    lowered = copy.deepcopy(graph)
    generator = lowered.generator
    encoder, decoder = generator.image_encoder, generator.decoder

    def lower(module: nn.Module, result: torch.dtype = torch.float32) -> nn.Sequential:
        return nn.Sequential(Cast(dtype), module.to(dtype), Cast(result))

    # The first level's features are a constant of the graph: its encoder is not part of it.
    for level in range(1, lowered.levels):
        encoder.downs[level] = lower(encoder.downs[level])
    # Where no modulation lies between two parts, nothing is cast to float32 and back.
    encoder.tail, decoder.head = lower(encoder.tail, dtype), lower(decoder.head)
    for level in range(lowered.levels):
        decoder.ups[level] = lower(decoder.ups[level], dtype if level == lowered.levels - 1 else torch.float32)
        generator.beta_heads[level] = lower(generator.beta_heads[level])
        if generator.ratio_limit is not None:
            generator.gamma_heads[level] = lower(generator.gamma_heads[level])
    decoder.tail = lower(decoder.tail)
    return lowered


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

"""Half precision inside the graph: which parts of the published generator survive it, and casts around them.

TensorRT takes a graph's types as they are, so everything is said in the graph. In float32 stay

- the label encoder and the feature ratio: a ratio whose denominator is almost 0 shows how each was rounded;
- the heads that read ratios, unless those are limited: they reach far beyond what float16 can hold;
- modulation: statistics over a whole picture, and gammas as large as the ratios.

Where ratios are not limited, what modulation hands on is itself beyond float16: 94,500 on a trained checkpoint, many
millions on an untrained network. It is divided by a power of two until it is modulated again: convolutions, their
folded norms and LeakyReLU are homogeneous, and between two modulations a generator is nothing else. What enters and
every bias divided by a power of two, what leaves is divided by just that, to the last bit.
"""

import contextlib
import copy
import math
from collections.abc import Sequence

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from semia.core.labels import ClassIds
from semia.export.graphs.published import SynthesisGraph
from semia.training.published.generator import Generator

LARGEST = 65504.0  # what float16 can hold

LAYOUTS_MAY_EXCEED = 64.0
"""How many times as much as in the measured layouts may enter a part; anything beyond is cut off there."""

PARTS_MAY_EXCEED = 4.0  # how many times as much as measured may become of the same entering values inside a part
BFLOAT16_OPSET = 22  # the first ONNX operator set whose convolutions take bfloat16

HALF_TYPES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Rescale(nn.Module):
    """A product with a power of two, of what lies within a limit."""

    def __init__(self, factor: float, limit: float = math.inf) -> None:
        super().__init__()
        self.factor, self.limit = factor, limit

    def forward(self, x: Tensor) -> Tensor:
        """Float32 of any shape."""
        if self.limit < math.inf:
            x = x.clamp(-self.limit, self.limit)
        return x if self.factor == 1 else x * self.factor


class Range:
    """The largest values that entered a part and that it computed, in magnitude."""

    def __init__(self, parts: Sequence[nn.Module], hooks: contextlib.ExitStack) -> None:
        """Watch parts that follow one another from now on, until ``hooks`` is closed."""
        self.entering = self.largest = 0.0
        hooks.enter_context(parts[0].register_forward_pre_hook(self._enter))
        for part in parts:
            for layer in part.modules():
                hooks.enter_context(layer.register_forward_hook(self._leave))

    @property
    def factor(self) -> float:
        """The power of two, at most 1, that brings all into float16's range with room to spare."""
        room = LARGEST / (LAYOUTS_MAY_EXCEED * PARTS_MAY_EXCEED)
        return 2.0 ** min(0, math.floor(math.log2(room / max(self.entering, self.largest, 1.0))))

    @property
    def limit(self) -> float:
        """What enters is cut off at this."""
        return LAYOUTS_MAY_EXCEED * self.entering

    def _enter(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.entering = max(self.entering, float(inputs[0].abs().max()))

    def _leave(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.largest = max(self.largest, float(output.abs().max()))


def measure_ranges(graph: nn.Module, chains: Sequence[Sequence[nn.Module]], layouts: Sequence[ClassIds]) -> list[Range]:
    """Draw layouts, ``uint8[H, W]`` each, and return what became of each chain of parts."""
    with contextlib.ExitStack() as hooks, torch.no_grad():
        ranges = [Range(parts, hooks) for parts in chains]
        for layout in layouts:
            graph(torch.from_numpy(layout.copy()).unsqueeze(0))
    return ranges


def multiply_biases(part: nn.Module, factor: float) -> None:
    """Multiply the biases of a part without norms, so that it takes and gives values multiplied by ``factor``."""
    with torch.no_grad():
        for layer in part.modules():
            bias = getattr(layer, "bias", None)
            if isinstance(bias, Tensor):
                bias.mul_(factor)


class Cast(nn.Module):
    """A change of type, said in the graph."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Any floating type to this one."""
        return x.to(self.dtype)


def half_precision_graph(graph: SynthesisGraph, dtype: torch.dtype, layouts: Sequence[ClassIds]) -> SynthesisGraph:
    """A copy of a float32 synthesis graph most of which computes in ``torch.float16`` or ``torch.bfloat16``.

    Where ratios have no limit, layouts such as will be drawn, ``uint8[H, W]`` each, tell what range of values float16
    must hold.
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

    The first level's features are a constant of the graph: their encoder is not part of it. With plates it is, in
    float32, as is the draft that it sees.
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

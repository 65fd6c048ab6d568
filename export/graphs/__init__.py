"""Which synthesis graph a generator becomes: the one place that knows them all."""

from typing import Protocol

from torch import nn

from semia.core.labels import Canvas
from semia.export.graphs.published import SynthesisGraph
from semia.training.base import SceneGenerator
from semia.training.published.generator import Generator
from semia.training.tensors import SceneTensors


class SceneGraph(Protocol):
    """A module that maps class ids ``uint8[N, H, W]`` on the canvas to pictures ``uint8[N, H, W, 3]``."""

    canvas: Canvas

    def eval(self) -> nn.Module:
        """The module itself, in inference mode."""
        ...


def synthesis_graph(generator: SceneGenerator, scene: SceneTensors) -> SceneGraph:
    """A trained generator bound to its scene, both on the CPU, ready to be exported as it stands."""
    if isinstance(generator, Generator):
        return SynthesisGraph(generator, scene)
    from semia.export.graphs.copying import CopyingGraph
    from semia.training.copying.generator import CopyingGenerator

    assert isinstance(generator, CopyingGenerator)
    graph: SceneGraph = CopyingGraph(generator, scene)
    return graph

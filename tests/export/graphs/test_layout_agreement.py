import pytest
import torch
from torch import Tensor

from semia.export.graphs.published import LayoutAgreement, SynthesisGraph
from semia.training.published.generator import Generator
from semia.training.tensors import SceneTensors

SOURCE_MARK = 9.0  # no feature is this large


def changed(generator: Generator, tensors: SceneTensors, target: Tensor) -> list[Tensor]:
    """Where each level's features differ from the source's, ``bool[h, w]``: what a feature sees."""
    with torch.no_grad():
        source, moved = generator.label_encoder(tensors.labels), generator.label_encoder(tensors.colors(target))
    return [(one != other).any(1)[0] for one, other in zip(source, moved, strict=True)]


@pytest.mark.parametrize("pixel", [(0, 0), (20, 33), (47, 63)])
def test_a_pixel_is_seen_exactly_where_features_are_not_replaced(tensors: SceneTensors, pixel: tuple[int, int]) -> None:
    torch.manual_seed(0)
    generator = Generator(4, 3).eval()
    target = tensors.class_ids.clone()
    target[0][pixel] = (target[0][pixel] + 1) % 3
    expected = changed(generator, tensors, target)
    marked = [torch.full((1, 4, *level.shape), SOURCE_MARK) for level in expected]
    other = [torch.zeros_like(level) for level in marked]
    kept = [level[0, 0] == 0 for level in LayoutAgreement(tensors.class_ids)(target, marked, other)]
    for seen, moved in zip(kept, expected, strict=True):
        assert not (moved & ~seen).any()  # nothing that moved is taken for the source's
        assert moved.sum() >= 0.75 * seen.sum()  # and hardly more is kept; float32 loses the last traces of a pixel


def test_features_of_the_sources_own_layout_are_the_ratios_denominators(tensors: SceneTensors) -> None:
    """Folded norms round differently; the ratio is 1 all the same."""
    torch.manual_seed(0)
    generator = Generator(8, 3)
    with torch.no_grad():  # gives the batch norms statistics to fold
        generator.train()(tensors.image, tensors.labels, tensors.labels.flip(3))
    graph = SynthesisGraph(generator, tensors)
    source = [graph.get_buffer(f"source_features_{level}") for level in range(graph.levels)]
    seen: list[list[Tensor]] = []
    with torch.no_grad():
        encoded = graph.generator.label_encoder(tensors.labels)
        graph.layout_agreement.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
        graph(tensors.class_ids[:, : graph.canvas.height, : graph.canvas.width].to(torch.uint8))
    assert not all(torch.equal(one, other) for one, other in zip(encoded, source, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(seen[0], source, strict=True))


def test_layouts_of_a_batch_are_judged_each_for_itself(tensors: SceneTensors) -> None:
    height, width = tensors.class_ids.shape[1:]
    other = (tensors.class_ids + 1) % 3
    source, target = torch.ones(1, 2, height // 2, width // 2), torch.zeros(2, 2, height // 2, width // 2)
    batch = torch.cat([tensors.class_ids, other])
    (features,) = LayoutAgreement(tensors.class_ids)(batch, [source], [target])
    assert (features[0] == 1).all()
    assert (features[1] == 0).all()

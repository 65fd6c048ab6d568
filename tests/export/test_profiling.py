from pathlib import Path

import onnx
import pytest
from onnx import helper

from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.export.errors import ExportError
from semia.export.onnx_writer import STAGE_PROPERTY
from semia.export.profiling import kernel_stages, profile_stages
from semia.training.scene import Scene


def test_a_profile_tells_every_stages_time(exported: Path, scene: Scene) -> None:
    profile = profile_stages(exported / MODEL_FILE, scene.labels, runs=20, threads=1)
    graph = ModelCard.read(exported / CARD_FILE).graph
    assert graph is not None
    assert [(stage.name, stage.flops) for stage in profile.stages] == [(s.name, s.flops) for s in graph.stages]
    assert all(stage.median_ms > 0 for stage in profile.stages)
    assert profile.unattributed_ms == 0
    assert (profile.runs, profile.threads) == (20, 1)
    encoder = profile.stages[1]
    assert encoder.gflops_per_second == pytest.approx(encoder.flops / encoder.median_ms / 1e6)
    assert encoder.share_of_peak == pytest.approx(encoder.gflops_per_second / profile.peak_gflops_per_second)
    # Medians of parts do not add up to the median of the whole, but nearly.
    in_kernels = sum(stage.median_ms for stage in profile.stages)
    assert in_kernels == pytest.approx(sum(profile.operators.values()), rel=0.5)
    assert in_kernels < 1.5 * profile.median_ms
    assert next(iter(profile.operators)) == max(profile.operators, key=profile.operators.__getitem__)


def test_too_few_runs_are_refused(exported: Path, scene: Scene) -> None:
    with pytest.raises(ExportError, match="19 runs are too few"):
        profile_stages(exported / MODEL_FILE, scene.labels, runs=19, threads=1)


def test_a_target_of_another_canvas_is_refused_in_one_line(exported: Path, scene: Scene) -> None:
    with pytest.raises(ExportError, match="ONNX Runtime cannot profile") as caught:
        profile_stages(exported / MODEL_FILE, scene.labels[:5], runs=20, threads=1)
    assert "\n" not in str(caught.value)


def _graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return onnx.GraphProto(node=nodes)


def _labeled(stage: str, operator: str, inputs: list[str], outputs: list[str], name: str) -> onnx.NodeProto:
    node = helper.make_node(operator, inputs, outputs, name=name)
    node.metadata_props.add(key=STAGE_PROPERTY, value=stage)
    return node


def test_fused_and_inserted_nodes_find_their_stage() -> None:
    original = _graph(
        _labeled("encoder", "Conv", ["x", "w"], ["conv"], "node_conv"),
        _labeled("encoder", "LeakyRelu", ["conv"], ["leaky"], "node_leaky"),
        _labeled("decoder", "Abs", ["leaky"], ["abs"], "node_abs"),
        _labeled("pixels", "Neg", ["abs"], ["neg"], "node_neg"),
        _labeled("pixels", "Add", ["neg", "one"], ["image"], "node_add"),
    )
    optimized = _graph(
        helper.make_node("ReorderInput", ["x"], ["token_1"], name="ReorderInput"),
        helper.make_node("Conv", ["token_1", "w"], ["token_2"], name="leaky_nchwc"),
        helper.make_node("ReorderOutput", ["token_2"], ["leaky"], name="ReorderOutput"),
        helper.make_node("Abs", ["leaky"], ["abs"], name="node_abs"),
        helper.make_node("Fused", ["abs", "one"], ["image"], name="fused 7"),
        helper.make_node("Abs", ["y"], ["z"], name="apart"),
    )
    assert kernel_stages(original, optimized) == {
        "ReorderInput": ("encoder", True),
        "leaky_nchwc": ("encoder", False),
        "ReorderOutput": ("encoder", True),
        "node_abs": ("decoder", False),
        "fused 7": ("pixels", False),
        "apart": ("other", True),
    }

"""Where an exported graph's time goes: ONNX Runtime's own profile on the CPU, told by stage and by operator."""

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from semia.core.labels import ClassIds
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME, GraphReport
from semia.export.errors import ExportError, first_line
from semia.export.graph_report import report_graph
from semia.export.onnx_writer import stages_of
from semia.export.session import open_session, session_options

LEAST_RUNS = 20
WARM_UP_RUNS = 3

PRODUCT_SIDE = 1536  # rows and columns of the float32 matrices whose product is one measure of the peak: 7 GFLOP

CONVOLUTION_SHAPE = (1, 128, 128, 128)
"""What the 3x3 convolution that is the other measure takes and gives, in float32: 5 GFLOP. ONNX Runtime computes it in
a layout of its own, as it does a generator's."""

KERNEL_SUFFIX = "_kernel_time"  # of a node's name in the profile
BLOCKED_SUFFIX = "_nchwc"  # of the name of a convolution in ONNX Runtime's blocked layout, after the value it computes


@dataclass(frozen=True)
class StageTime:
    """One stage at batch 1."""

    name: str
    flops: int  # as `semia.export.graph_report` counts them
    median_ms: float  # of all its kernels in a run
    gflops_per_second: float
    share_of_peak: float  # from 0


@dataclass(frozen=True)
class StageProfile:
    """Where the time of one picture goes; times are medians over the runs, so they need not add up exactly."""

    threads: int
    runs: int
    peaks: dict[str, float]  # best GFLOP/s of large float32 operations in the same process, in turn with the model
    median_ms: float  # of a whole run, with the profiler on
    stages: tuple[StageTime, ...]  # in the order in which they run
    operators: dict[str, float]  # milliseconds by operator type, as ONNX Runtime runs them, longest first
    inserted_ms: float  # part of the stages' times: in nodes that ONNX Runtime inserted, counted to their neighbors'
    unattributed_ms: float  # in kernels of which no stage could be told; no stage's times hold it
    outside_ms: float  # in no kernel: the executor, and the profiler's own notes

    @property
    def peak_gflops_per_second(self) -> float:
        """The highest of `peaks`."""
        return max(self.peaks.values())


@dataclass
class _Run:
    """Milliseconds of one run, in all and in kernels."""

    whole: float
    stages: Counter[str] = field(default_factory=Counter)  # by stage; "" has those of which none could be told
    operators: Counter[str] = field(default_factory=Counter)
    inserted: float = 0.0


def profile_stages(model: Path, target: ClassIds, runs: int, threads: int) -> StageProfile:
    """Profile a ``model.onnx`` on the CPU, in this process, drawing a layout ``uint8[H, W]`` on its canvas.

    A graph whose metadata names no stages is all one stage, ``other``. At least `LEAST_RUNS` are timed, after some that
    do not count.

    Raises:
        ExportError: if the runs are too few, or ONNX Runtime cannot run the graph.
    """
    if runs < LEAST_RUNS:
        raise ExportError(f"{runs} runs are too few for a median: profile at least {LEAST_RUNS}")
    report = report_graph(model)
    try:
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            options = _options(threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(optimized.with_name("profile"))
            options.optimized_model_filepath = str(optimized)
            session = open_session(model, options)
            peaks = _alternate(session, target, runs, threads)
            profile = Path(session.end_profiling())
            stages = kernel_stages(onnx.load(model).graph, onnx.load(optimized).graph)
            timed = _runs_of(profile, stages)[-runs:]
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ExportError(f"ONNX Runtime cannot profile {model}: {first_line(error)}") from error
    return _profile(timed, report, peaks, threads)


def kernel_stages(original: onnx.GraphProto, optimized: onnx.GraphProto) -> dict[str, tuple[str, bool]]:
    """The stage of each node of a graph as ONNX Runtime optimized it, and whether its neighbors alone told it.

    A fused node keeps the name of one of the nodes that it was made of, or computes a value that the last one of
    them did, or is named after that value. Nodes of neither kind, which convert layouts, were inserted.
    """
    by_name: dict[str, str] = {}
    for node, stage in zip(original.node, stages_of(original), strict=True):
        # Names before values: they are told apart, as the exporter begins each node's with "node_".
        by_name |= dict.fromkeys([*node.output, node.name], stage)
    known = {}
    for number, node in enumerate(optimized.node):
        candidates = [node.name, node.name.removesuffix(BLOCKED_SUFFIX)]
        if not node.op_type.startswith("Reorder"):
            candidates += node.output
        if told := [by_name[name] for name in candidates if name in by_name]:
            known[number] = told[0]
    stages = stages_of(optimized, known)
    return {node.name: (stages[number], number not in known) for number, node in enumerate(optimized.node)}


def _options(threads: int) -> Any:
    options = session_options(threads)
    options.log_severity_level = 3  # it warns that the optimized graph fits this machine only, which is what is wanted
    return options


def _alternate(session: Any, target: ClassIds, runs: int, threads: int) -> dict[str, float]:
    """Run the model and what measures the peak in turn, so that all meet the same machine; the latter's GFLOP/s."""
    side, (_, channels, height, width) = PRODUCT_SIDE, CONVOLUTION_SHAPE
    product = _Measure("MatMul", (side, side), (side, side), 2 * side**3, threads)
    kernel = (channels, channels, 3, 3)
    convolution = _Measure("Conv", CONVOLUTION_SHAPE, kernel, 2 * 9 * channels**2 * height * width, threads)
    for _ in range(WARM_UP_RUNS + runs):
        session.run([OUTPUT_NAME], {INPUT_NAME: target[np.newaxis]})
        product.run()
        convolution.run()
    return {"a large matrix product": product.best, "a large 3x3 convolution": convolution.best}


class _Measure:
    """One operator whose second input is stored, so that ONNX Runtime packs it beforehand, as it does weights."""

    def __init__(
        self, operator: str, shape: tuple[int, ...], stored: tuple[int, ...], flops: int, threads: int
    ) -> None:
        random = np.random.default_rng(0)
        weights = numpy_helper.from_array(random.random(stored, dtype=np.float32), "weights")
        inputs, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
        node = helper.make_node(operator, ["x", "weights"], ["y"])
        if operator == "Conv":
            node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
        graph = helper.make_graph([node], "peak", [inputs], [result], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        self._session = open_session(model.SerializeToString(), _options(threads))
        self._x = random.random(shape, dtype=np.float32)
        self._flops = flops
        self.best = 0.0  # GFLOP/s

    def run(self) -> None:
        """Once more."""
        begin = time.perf_counter()
        self._session.run(["y"], {"x": self._x})
        self.best = max(self.best, self._flops / (time.perf_counter() - begin) / 1e9)


def _runs_of(profile: Path, stages: Mapping[str, tuple[str, bool]]) -> list[_Run]:
    """The runs that a profile of ONNX Runtime recorded, in their order; ``stages`` as `kernel_stages` gives them."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    kernels = [event for event in events if event["name"].endswith(KERNEL_SUFFIX)]
    runs = []
    for whole in sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"]):
        run = _Run(whole["dur"] / 1e3)
        for kernel in kernels:
            if whole["ts"] <= kernel["ts"] <= whole["ts"] + whole["dur"]:
                stage, inserted = stages.get(kernel["name"].removesuffix(KERNEL_SUFFIX), ("", False))
                milliseconds = kernel["dur"] / 1e3
                run.stages[stage] += milliseconds
                run.operators[kernel["args"]["op_name"]] += milliseconds
                run.inserted += milliseconds if inserted else 0.0
        runs.append(run)
    return runs


def _profile(runs: list[_Run], report: GraphReport, peaks: dict[str, float], threads: int) -> StageProfile:
    stages, peak = [], max(peaks.values())
    for stage in report.stages:
        duration = statistics.median(run.stages[stage.name] for run in runs)
        rate = stage.flops / duration / 1e6 if duration else 0.0
        stages.append(StageTime(stage.name, stage.flops, duration, rate, rate / peak))
    names = set().union(*(run.operators for run in runs))
    operators = {name: statistics.median(run.operators[name] for run in runs) for name in names}
    known = {stage.name for stage in stages}
    unattributed = (sum(ms for name, ms in run.stages.items() if name not in known) for run in runs)
    return StageProfile(
        threads=threads,
        runs=len(runs),
        peaks=peaks,
        median_ms=statistics.median(run.whole for run in runs),
        stages=tuple(stages),
        operators=dict(sorted(operators.items(), key=lambda entry: -entry[1])),
        inserted_ms=statistics.median(run.inserted for run in runs),
        unattributed_ms=statistics.median(unattributed),
        outside_ms=statistics.median(run.whole - run.stages.total() for run in runs),
    )

"""What `tests.load.gpu_checks` measures, one function a check; all run on the CPU too, for its dry run."""

import dataclasses
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semia.core.contact_sheet import Tile, contact_sheet
from semia.core.images import RGB, read_rgb, write_rgb
from semia.core.labels import ClassIds
from semia.core.machine import this_machine
from semia.core.model_card import MODEL_FILE, PLAN_FILE, Accelerator, Precision
from semia.training.copying.preparation import prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.loop import train
from semia.training.published.generator import Generator
from semia.training.published.losses import rgb_features
from semia.training.published.trainer import AlternatingTrainer
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene, load_scene
from semia.training.settings import PAPER, TrainingSettings
from semia.training.tensors import SceneTensors

Figures = dict[str, Any]
"""What a check found: numbers, words, and dicts and lists of them, for JSON."""

TRAINING_SCALE = 0.43
"""Of the scene's side: about 275x184 pixels for the pagoda, at which the published method is compared."""

BATCH = 8
"""Label maps of the largest request that is served."""


class NotHereError(Exception):
    """What a check needs is not on the machine; the message says what."""


@dataclass(frozen=True)
class CheckSettings:
    """Where and on what checks run."""

    scene: Path
    scale: float  # of the scene's sides
    workspace: Path  # what one check makes, later ones use
    device: str  # "cuda", or "cpu" in a dry run

    @property
    def torch_device(self) -> torch.device:
        """The device for PyTorch."""
        return torch.device(self.device)

    @property
    def repeats(self) -> int:
        """How often each answer is timed."""
        return 50 if self.device == "cuda" else 2

    @property
    def paper(self) -> TrainingSettings:
        """The preset `paper`; narrow, with one step an iteration, in a dry run."""
        if self.device == "cuda":
            return PAPER
        return dataclasses.replace(
            PAPER, generator_width=4, discriminator_width=4, segmentation_width=4, generator_steps=1
        )

    def load_scene(self, scale: float | None = None) -> Scene:
        """The scene at the scale measured, or at another."""
        return load_scene(self.scene, resize=scale or self.scale)

    def run(self, generator: str) -> RunFolder:
        """The run folder that an earlier check made.

        Raises:
            NotHereError: if it did not.
        """
        path = self.workspace / generator
        if not RunFolder.is_run(path):
            raise NotHereError(f"the {generator} generator was not made")
        return RunFolder.open(path)


def machine(settings: CheckSettings) -> Figures:
    """GPU, driver, processor and versions."""
    found: Figures = dataclasses.asdict(this_machine())
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return found


def tests(settings: CheckSettings) -> Figures:
    """`pytest -m gpu`: how many passed, failed and were skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run([*command, "tests/training", "tests/export"], capture_output=True, text=True, check=False)
    last = ended.stdout.strip().splitlines()[-1:] or ["pytest printed nothing"]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last[0])}
    if ended.returncode not in (0, 5) or (settings.device == "cuda" and not counts.get("passed")):
        raise RuntimeError(f"{last[0]}\n{ended.stdout[-6000:]}\n{ended.stderr[-2000:]}")
    return counts


def copying(settings: CheckSettings) -> Figures:
    """The copying generator in PyTorch: preparation, pictures equal to the CPU's, answer times."""
    scene, device = settings.load_scene(), settings.torch_device
    run = RunFolder.create(settings.workspace / "copying", scene, CopyingSettings())
    began = time.perf_counter()
    prepare_run(run, device)
    prepared_s = time.perf_counter() - began
    expected = _pictures(run.load_generator().renderer(), scene)
    loaded = run.load_generator(device)
    generator, tensors = loaded
    drawn = _pictures(loaded.renderer(), scene)
    for name, picture in drawn.items():
        write_rgb(settings.workspace / f"{name}.png", picture)
    with torch.no_grad():
        synthesize = generator.synthesizer(tensors)
        ids = tensors.target_ids(scene.labels)
        return {
            "canvas": str(scene.canvas),
            "preparation_s": round(prepared_s, 2),
            "largest_difference_from_cpu": _largest_difference(drawn, expected),
            "eager_ms": _median_ms(lambda: synthesize(ids), settings),
            "eager_ms_a_picture_of_8": _median_ms(lambda: synthesize(ids.repeat(BATCH, 1, 1)), settings) / BATCH,
            "cuda_graph_ms": _or_reason(lambda: _median_ms(_recorded(synthesize, ids), settings), settings),
        }


def published_answer(settings: CheckSettings) -> Figures:
    """One forward pass of the published architecture, untrained: in every way that PyTorch has."""
    scene, device = settings.load_scene(), settings.torch_device
    tensors = SceneTensors.from_scene(scene, PAPER.multiple, device)
    torch.manual_seed(0)
    generator = Generator.from_settings(PAPER).to(device).eval()
    ids = tensors.target_ids(scene.labels)

    def everything(ids: torch.Tensor) -> torch.Tensor:
        return generator.synthesize(tensors, ids)

    with torch.no_grad():
        constants_ready = generator.synthesizer(tensors)
        figures: Figures = {
            "canvas": str(scene.canvas),
            "float32_ms": _median_ms(lambda: everything(ids), settings),
            "constants_ready_ms": _median_ms(lambda: constants_ready(ids), settings),
            "cuda_graph_ms": _or_reason(lambda: _median_ms(_recorded(constants_ready, ids), settings), settings),
        }
        with torch.autocast(device.type, torch.bfloat16):
            figures["bfloat16_ms"] = _median_ms(lambda: constants_ready(ids), settings)
        if settings.device == "cuda":
            compiled = torch.compile(everything, mode="reduce-overhead")
            figures["compiled_cuda_graph_ms"] = _or_reason(
                lambda: _median_ms(lambda: compiled(ids), settings), settings
            )
    return figures


def training(settings: CheckSettings, *, mixed_precision: bool, compiled: bool = False) -> Figures:
    """Iterations of `paper`: their time, and how long all of them would take."""
    scene = settings.load_scene(min(settings.scale, TRAINING_SCALE))
    paper = dataclasses.replace(settings.paper, mixed_precision=mixed_precision)
    tensors = SceneTensors.from_scene(scene, paper.multiple, settings.torch_device)
    trainer = AlternatingTrainer(tensors, paper, 0, rgb_features)
    if compiled:
        for network in (trainer.generator, trainer.discriminator, trainer.segmentation):
            network.compile()
    cycle = paper.reconstruction_every
    cycles = 4 if settings.device == "cuda" else 1
    warming_up = 2 * cycle if settings.device == "cuda" else 0  # the second time round, steps are recorded
    for iteration in range(warming_up):
        trainer.iterate(iteration, 0.0)
    began = time.perf_counter()
    for iteration in range(warming_up, warming_up + cycle * cycles):
        losses = trainer.iterate(iteration, 0.0)
    _synchronize(settings)
    iteration_s = (time.perf_counter() - began) / (cycle * cycles)
    assert all(np.isfinite(loss) for loss in losses.values())
    return {
        "canvas": str(scene.canvas),
        "iteration_ms": round(1000 * iteration_s, 1),
        "iterations_per_s": round(1 / iteration_s, 2),
        "all_2500_minutes": round(PAPER.iterations * iteration_s / 60, 1),
    }


def short_run(settings: CheckSettings) -> Figures:
    """A run of `paper`, a few iterations long, through its run folder: checkpoint, sheet, a generator to export."""
    iterations = 40 if settings.device == "cuda" else 1
    scene = settings.load_scene()
    short = settings.paper.with_iterations(iterations)
    run = RunFolder.create(settings.workspace / "published", scene, short)
    began = time.perf_counter()
    finished = train(run, settings.torch_device)
    if not finished:
        raise RuntimeError("the run did not finish")
    return {"canvas": str(scene.canvas), "iterations": iterations, "seconds": round(time.perf_counter() - began, 1)}


def onnxruntime_answer(settings: CheckSettings, *, generator: str, precision: Precision = "fp32") -> Figures:
    """A bundle's graph in ONNX Runtime: the CUDA provider with bound memory, with and without CUDA graphs."""
    import onnxruntime

    from tests.load.bound_session import BoundSession

    provider = "CUDAExecutionProvider" if settings.device == "cuda" else "CPUExecutionProvider"
    run = settings.run(generator)
    began = time.perf_counter()
    bundle = _bundle(settings, run, generator, precision)
    figures: Figures = {"export_s": round(time.perf_counter() - began, 1)}
    if provider not in onnxruntime.get_available_providers():
        raise NotHereError(f"this ONNX Runtime {onnxruntime.__version__} has no {provider}")
    if settings.device == "cuda":
        onnxruntime.preload_dlls()
    scene = run.scene
    session = BoundSession(bundle / MODEL_FILE, settings.device)
    expected = _pictures(run.load_generator().renderer(), scene)
    drawn = _pictures(lambda ids: session(ids[np.newaxis])[0], scene)
    batch = np.repeat(scene.labels[np.newaxis], BATCH, axis=0)
    figures |= {
        "canvas": str(scene.canvas),
        "nodes_by_provider": session.nodes_by_provider(scene.labels),
        "largest_difference_from_cpu": _largest_difference(drawn, expected),
        "ms": _median_ms(lambda: session(scene.labels[np.newaxis]), settings),
        "ms_a_picture_of_8": _median_ms(lambda: session(batch), settings) / BATCH,
        "cuda_graph_ms": _or_reason(lambda: _recorded_session_ms(bundle, scene, drawn["source"], settings), settings),
    }
    return figures


def tensorrt_answer(settings: CheckSettings, *, generator: str, precision: Precision = "fp32") -> Figures:
    """A bundle's TensorRT engine: built, compared with ONNX Runtime, timed."""
    from semia.export.errors import TensorRTMissingError
    from semia.export.exporter import parity_targets
    from semia.export.tensorrt.build import import_tensorrt
    from semia.export.tensorrt.engine import EngineRenderer, add_engine

    try:
        import_tensorrt()
    except TensorRTMissingError as error:
        raise NotHereError(f"no TensorRT: {error}") from error
    run = settings.run(generator)
    bundle = _bundle(settings, run, generator, precision)
    scene = run.scene
    began = time.perf_counter()
    card = add_engine(bundle, parity_targets(scene), _SilentObserver())
    built_s = time.perf_counter() - began
    render = EngineRenderer(bundle / PLAN_FILE)
    return {
        "canvas": str(scene.canvas),
        "tensorrt": card.tensorrt,
        "build_s": round(built_s, 1),
        "largest_difference_from_onnxruntime": max(entry.max_abs for entry in card.parity),
        "ms": _median_ms(lambda: render(scene.labels), settings),
    }


def triton_answer(settings: CheckSettings, *, generator: str) -> Figures:
    """The real Triton on this machine: answer times over gRPC, and the picture it gives."""
    from semia.bench.ways import OverGrpc, temporary_triton
    from semia.serving.errors import TritonNotFoundError
    from semia.serving.model_config import ServingSettings
    from semia.serving.triton.embedded import locate_embedded_triton

    try:
        locate_embedded_triton()
    except TritonNotFoundError as error:
        raise NotHereError(f"no Triton: {error}") from error
    run = settings.run(generator)
    bundle, scene = _bundle(settings, run, generator, "fp32"), run.scene
    accelerator = Accelerator.CUDA if settings.device == "cuda" else None
    with temporary_triton(bundle, {"model": ServingSettings(accelerator=accelerator)}) as server:
        way = OverGrpc(server.grpc_url, server.pid, "model", [scene.labels])
        try:
            way.draw(1, 3)
            one, eight = way.draw(1, settings.repeats), way.draw(BATCH, BATCH * settings.repeats)
        finally:
            way.close()
    return {
        "canvas": str(scene.canvas),
        "ms": round(statistics.median(one.latencies_ms), 2),
        "pictures_per_s_of_8_clients": round(len(eight.latencies_ms) / eight.seconds, 1),
    }


def sheet(settings: CheckSettings) -> Figures:
    """The pictures that the GPU drew, to look at."""
    pictures = sorted(settings.workspace.glob("*.png"))
    if not pictures:
        raise NotHereError("no pictures were drawn")
    tiles = [Tile(path.stem, read_rgb(path)) for path in pictures]
    write_rgb(settings.workspace / "sheet" / "gpu.png", contact_sheet(tiles, columns=4))
    return {"pictures": len(tiles)}


class _SilentObserver:
    def start(self, phase: str, steps: int) -> None:
        """Ignore it."""

    def step(self, phase: str, step: int) -> None:
        """Ignore it."""

    def finish(self, phase: str) -> None:
        """Ignore it."""


def _bundle(settings: CheckSettings, run: RunFolder, generator: str, precision: Precision) -> Path:
    from semia.export.exporter import export_run
    from semia.export.precision.request import PrecisionRequest

    bundle = settings.workspace / f"{generator}-{precision}"
    if not (bundle / MODEL_FILE).is_file():
        request = PrecisionRequest(precision, for_another_machine=precision != "fp32")
        export_run(run, bundle, precision=request)
    return bundle


def _recorded_session_ms(bundle: Path, scene: Scene, expected: RGB, settings: CheckSettings) -> float:
    """The answer time of a session whose CUDA graph is recorded; the picture must be the same."""
    from tests.load.bound_session import BoundSession

    session = BoundSession(bundle / MODEL_FILE, settings.device, record=True)
    for _ in range(3):
        picture = session(scene.labels[np.newaxis])[0]
    if not np.array_equal(picture, expected):
        raise RuntimeError("the recorded graph draws another picture")
    return _median_ms(lambda: session(scene.labels[np.newaxis]), settings)


def _recorded(synthesize: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor) -> Callable[[], object]:
    """A function's work on one label map as a CUDA graph, to be replayed; checked against the function."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        for _ in range(3):
            expected = synthesize(ids)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = synthesize(ids)
    graph.replay()
    torch.cuda.synchronize()
    if not torch.equal(output, expected):
        raise RuntimeError("the recorded graph draws another picture")
    return graph.replay


def _pictures(render: Callable[[ClassIds], RGB], scene: Scene) -> dict[str, RGB]:
    """Of the photograph's own layout and every target."""
    return {name: render(ids).copy() for name, ids in {"source": scene.labels, **scene.targets}.items()}


def _largest_difference(drawn: Mapping[str, RGB], expected: Mapping[str, RGB]) -> int:
    """Of 255, over all pictures."""
    return max(int(np.abs(drawn[name].astype(np.int16) - expected[name]).max()) for name in expected)


def _median_ms(run: Callable[[], object], settings: CheckSettings) -> float:
    """The median of a call, everything that it started on the GPU included."""
    for _ in range(3 if settings.device == "cuda" else 1):
        run()
    times = []
    for _ in range(settings.repeats):
        _synchronize(settings)
        began = time.perf_counter()
        run()
        _synchronize(settings)
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times), 3)


def _or_reason(measure: Callable[[], float], settings: CheckSettings) -> float | str:
    """A figure, or the first line of why there is none."""
    if settings.device != "cuda":
        return "needs a GPU"
    try:
        return measure()
    except Exception as error:  # ONNX Runtime's and CUDA's have no base class of their own
        return f"failed: {(str(error).splitlines() or [type(error).__name__])[0]}"


def _synchronize(settings: CheckSettings) -> None:
    if settings.device == "cuda":
        torch.cuda.synchronize()


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False, env=os.environ)
    return answer.stdout.strip().splitlines()[0] if answer.returncode == 0 and answer.stdout.strip() else "unknown"

"""TensorRT engines in use: run on the GPU, and added to a bundle as model.plan, checked against its graph."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semia.core.files import sha256_of_file
from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.model_card import (
    CARD_FILE,
    INPUT_NAME,
    MODEL_FILE,
    OUTPUT_NAME,
    PLAN_FILE,
    Bundle,
    EngineCard,
    TargetParity,
)
from semia.core.staging import staged_directory
from semia.export.checks import check_parity, compare, measure_parity
from semia.export.errors import EngineError, ExportError
from semia.export.session import OnnxRenderer
from semia.export.tensorrt.build import (
    BatchProfile,
    BuildObserver,
    build_plan,
    import_tensorrt,
    new_logger,
    tensorrt_model,
    this_machine,
)

DEVICE = "cuda"


class EngineRenderer:
    """A ``model.plan`` as a function from layouts to pictures, on the GPU."""

    def __init__(self, plan: Path) -> None:
        """Load the engine.

        Raises:
            TensorRTMissingError: if this machine has no TensorRT.
            EngineError: if TensorRT cannot load it: it is another GPU's, or another version's.
        """
        trt = import_tensorrt()
        self._logger = new_logger(trt)
        try:
            self._runtime = trt.Runtime(self._logger)
        except (TypeError, RuntimeError) as error:  # what the bindings make of a runtime that is none
            raise EngineError(f"TensorRT {trt.__version__} cannot start here: {self._logger.last_error}") from error
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        # The plan of another version is None, here as in every function of TensorRT that fails.
        self._context: Any = None if self._engine is None else self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT {trt.__version__} cannot load {plan}: {self._logger.last_error}")

    def __call__(self, target: ClassIds) -> RGB:
        """Render a target layout ``uint8[H, W]`` on the canvas as ``uint8[H, W, 3]``, or raise an EngineError."""
        picture: RGB = self.render_batch(target[np.newaxis])[0]
        return picture

    def render_batch(self, targets: ClassIds) -> RGB:
        """Render layouts ``uint8[N, H, W]`` as ``uint8[N, H, W, 3]``; an EngineError if it fails or takes fewer."""
        context = self._context
        if not context.set_input_shape(INPUT_NAME, targets.shape):
            raise EngineError(f"the engine takes no label maps of {targets.shape}: {self._logger.last_error}")
        # A stream of its own: on the default one TensorRT waits for the whole GPU around every call.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch does not annotate it
        with torch.cuda.stream(stream):
            label_maps = torch.from_numpy(targets.copy()).to(DEVICE)  # PyTorch takes no read-only memory
            pictures = torch.empty(tuple(context.get_tensor_shape(OUTPUT_NAME)), dtype=torch.uint8, device=DEVICE)
            context.set_tensor_address(INPUT_NAME, label_maps.data_ptr())
            context.set_tensor_address(OUTPUT_NAME, pictures.data_ptr())
            if not context.execute_async_v3(stream.cuda_stream):
                raise EngineError(f"the engine cannot run: {self._logger.last_error}")
        stream.synchronize()
        rendered: RGB = pictures.cpu().numpy()
        return rendered


DEFAULT_BATCHES = BatchProfile()


def add_engine(
    bundle: Path,
    targets: Mapping[str, ClassIds],
    observer: BuildObserver,
    *,
    batches: BatchProfile = DEFAULT_BATCHES,
    tolerance: int | None = None,
    on_parity: Callable[[tuple[TargetParity, ...]], None] = lambda _: None,
) -> EngineCard:
    """Build a TensorRT engine of a bundle's graph, for this machine; the bundle then serves from it.

    The engine's pictures of ``targets``, layouts ``uint8[H, W]`` on the canvas by name, are compared with ONNX
    Runtime's, one by one and as the largest batch. No pixel may differ by more than ``tolerance`` 8-bit levels (None:
    the bundle's own); ``on_parity`` is told the figures before they are judged.

    Raises:
        InputError: if the bundle is none, or its graph is not the one of its card.
        TensorRTMissingError: if this machine cannot build engines.
        EngineError: if TensorRT refuses the graph or fails.
        ParityError: if the engine is beyond the tolerance.
        ExportError: if the disk refuses. No failure changes the bundle.
    """
    machine = this_machine()
    card = Bundle.open(bundle).card
    allowed = card.parity_tolerance if tolerance is None else tolerance
    try:
        with staged_directory(bundle) as staging:
            shutil.copytree(bundle, staging, dirs_exist_ok=True)
            plan = staging / PLAN_FILE
            graph = tensorrt_model(bundle / MODEL_FILE)
            plan.write_bytes(build_plan(graph, card.canvas, batches, machine.timing_cache, observer))
            render = EngineRenderer(plan)
            parity = measure_parity(bundle / MODEL_FILE, render, targets)
            parity += (_batch_parity(bundle / MODEL_FILE, render, targets, batches.largest),)
            on_parity(parity)
            check_parity(parity, allowed, "ONNX Runtime")
            engine = EngineCard(
                **dataclasses.asdict(machine),
                precision=card.precision,
                opt_batch=batches.tuned_for,
                max_batch=batches.largest,
                plan_sha256=sha256_of_file(plan),
                parity=parity,
            )
            dataclasses.replace(card, engine=engine).write(staging / CARD_FILE)
    except OSError as error:
        raise ExportError(f"cannot add an engine to {bundle}: {error}") from error
    return engine


def _batch_parity(model: Path, render: EngineRenderer, targets: Mapping[str, ClassIds], largest: int) -> TargetParity:
    """The largest batch at once: an engine computes it in other ways than one label map."""
    layouts = np.resize(np.stack(list(targets.values())), (largest, *next(iter(targets.values())).shape))
    alone = OnnxRenderer(model)
    return compare(f"batch of {largest}", render.render_batch(layouts), np.stack([alone(ids) for ids in layouts]))

"""What a run writes for people and tools to watch: metrics.jsonl, TensorBoard events, sample sheets."""

import contextlib
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from semia.core.errors import ImageError
from semia.core.files import write_text
from semia.core.images import RGB, write_rgb
from semia.training.errors import TrainingError
from semia.training.run_folder import METRICS_FILE, SAMPLES_FOLDER

RESUME = "--resume goes on from the last checkpoint"


class RunLog:
    """Appends to a run's records, from an iteration on: later lines of a killed run are dropped."""

    def __init__(self, run: Path, first_iteration: int) -> None:
        self._run = run
        metrics = run / METRICS_FILE
        if metrics.is_file():
            write_text(metrics, "".join(_lines_before(metrics, first_iteration)))
        self._metrics = metrics.open("a", encoding="utf-8")
        self._events = SummaryWriter(log_dir=str(run), purge_step=first_iteration)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._metrics, self._events):
            with contextlib.suppress(OSError):  # what a full disk refused has been said; it refuses it again
                each.close()

    def record(self, iteration: int, losses: dict[str, float], seconds: float) -> None:
        """Note one iteration's losses and duration.

        Raises:
            TrainingError: if the disk refuses.
        """
        line = {"iteration": iteration, "seconds": round(seconds, 3)}
        line |= {name: round(value, 6) for name, value in losses.items()}
        try:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
            for name, value in losses.items():
                self._events.add_scalar(f"loss/{name}", value, iteration)  # raises what an earlier one met
        except OSError as error:
            raise TrainingError(f"cannot record losses in {self._run}: {error}; {RESUME}") from error

    def sheet(self, iteration: int, sheet: RGB) -> Path:
        """Keep a sample sheet made after ``iteration`` iterations; returns its path.

        Raises:
            TrainingError: if the disk refuses.
        """
        path = self._run / SAMPLES_FOLDER / f"{iteration:06d}.png"
        try:
            write_rgb(path, sheet)
            self._events.add_image("samples", sheet, iteration, dataformats="HWC")
        except (ImageError, OSError) as error:
            raise TrainingError(f"cannot keep a sample sheet: {error}; {RESUME}") from error
        return path


def _lines_before(metrics: Path, first_iteration: int) -> list[str]:
    """The whole lines of ``metrics.jsonl`` from before an iteration; a torn last line is dropped."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("}\n")]
    return [line for line in whole if json.loads(line)["iteration"] < first_iteration]


def training_seconds(run: Path) -> float | None:
    """How long a run's iterations took, all together; None where it has no records."""
    metrics = run / METRICS_FILE
    if not metrics.is_file():
        return None
    lines = _lines_before(metrics, sys.maxsize)
    return float(sum(json.loads(line)["seconds"] for line in lines)) if lines else None

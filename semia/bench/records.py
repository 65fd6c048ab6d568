"""What a benchmark found: the records that tables, plots and the README are made from, and their JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from semia.bench.ways import Round, WayName
from semia.core.errors import InputError
from semia.core.files import write_result
from semia.core.labels import Canvas
from semia.core.machine import Machine
from semia.core.records import from_json, to_json
from semia.export.profiling import StageProfile
from semia.serving.model_config import ServingSettings

FORMAT = 3  # raised when the JSON's meaning changes
QUANTILES = (0, 5, 25, 50, 75, 90, 95, 99, 100)  # of the latencies, in percent
REFERENCE_TITLE = "published architecture, untrained"  # of the measurement that all others are compared with


@dataclass(frozen=True)
class Turn:
    """One turn of a way. It is best compared with other ways' turns of the same round, which met the same machine."""

    median_ms: float
    pictures_per_s: float

    @classmethod
    def of(cls, measured: Round) -> "Turn":
        """What a round's calls come to."""
        latencies_ms = measured.latencies_ms
        return cls(round(statistics.median(latencies_ms), 3), round(len(latencies_ms) / measured.seconds, 3))


@dataclass(frozen=True)
class Measurement:
    """One way to one model's pictures, with so many clients at once."""

    title: str  # the subject's, or `REFERENCE_TITLE`
    canvas: Canvas
    way: WayName
    clients: int
    calls: int
    quantiles_ms: dict[str, float]  # latency by percent: `QUANTILES`
    pictures_per_s: float
    peak_memory_mb: float | None  # of the processes that draw, since they began; None where unknown
    turns: list[Turn]  # one a round

    @property
    def median_ms(self) -> float:
        """The median latency."""
        return self.quantiles_ms["50"]

    def added_ms(self, other: "Measurement") -> float:
        """What it takes longer than ``other``: the median over the rounds of the difference of the turns' medians."""
        pairs = zip(self.turns, other.turns, strict=True)
        return statistics.median(mine.median_ms - theirs.median_ms for mine, theirs in pairs)

    def kept(self, other: "Measurement") -> float:
        """Its share of the pictures per second of ``other``: the median over the rounds of the turns' ratios."""
        pairs = zip(self.turns, other.turns, strict=True)
        return statistics.median(mine.pictures_per_s / theirs.pictures_per_s for mine, theirs in pairs)


@dataclass(frozen=True)
class SubjectRecord:
    """What the report has to know of a subject."""

    title: str
    canvas: Canvas
    generator: str
    precision: str
    parameters: int
    graph_sha256: str
    settings: ServingSettings


@dataclass(frozen=True)
class ProfileRecord:
    """Where one model's time goes in ONNX Runtime, in process."""

    title: str
    canvas: Canvas
    profile: StageProfile


@dataclass(frozen=True)
class Benchmark:
    """Everything that one run found; `bench.json` is this, as JSON."""

    machine: Machine
    date: str  # ISO 8601, UTC
    threads: int  # CPU threads of PyTorch and of the session in process
    calls: int  # asked for, of each way
    subjects: list[SubjectRecord]
    measurements: list[Measurement]
    profiles: list[ProfileRecord]
    format: int = field(default=FORMAT)

    def write(self, path: Path) -> None:
        """Write the JSON, as `write_result`."""
        write_result(path, to_json(self, indent=1))

    @classmethod
    def read(cls, path: Path) -> "Benchmark":
        """Read what `write` wrote.

        Raises:
            InputError: if the file is missing or is nothing of the kind.
        """
        try:
            return from_json(cls, path.read_text(encoding="utf-8"), file_format=FORMAT)
        except FileNotFoundError:
            raise InputError(f"no benchmark at {path}: name what to measure, and it is written there") from None
        except (InputError, OSError, ValueError) as error:
            raise InputError(f"{path} is not a benchmark: {type(error).__name__}: {error}") from error

    def find(self, way: WayName, canvas: Canvas, title: str | None = None, clients: int = 1) -> Measurement:
        """One measurement; an InputError if the file that this was read from lacks it."""
        for each in self.measurements:
            if (each.way, each.canvas, each.clients) == (way, canvas, clients) and title in (None, each.title):
                return each
        raise InputError(f"the benchmark has no measurement of {way} at {canvas}, {title or 'any'}, {clients} at once")


def pooled(rounds: Sequence[Round]) -> tuple[dict[str, float], float]:
    """The `QUANTILES` of the latencies of several rounds, in ms, and their pictures per second."""
    latencies_ms = [latency for each in rounds for latency in each.latencies_ms]
    values = np.percentile(latencies_ms, QUANTILES)
    quantiles = {str(percent): round(float(value), 3) for percent, value in zip(QUANTILES, values, strict=True)}
    return quantiles, round(len(latencies_ms) / sum(each.seconds for each in rounds), 3)

"""A benchmark with round numbers, to see what reports make of it."""

import pytest

from semia.bench.records import (
    QUANTILES,
    REFERENCE_TITLE,
    Benchmark,
    Measurement,
    ProfileRecord,
    SubjectRecord,
    Turn,
)
from semia.bench.ways import WayName
from semia.core.labels import Canvas
from semia.core.machine import Machine
from semia.export.profiling import StageProfile, StageTime
from semia.serving import ServingSettings

CANVAS = Canvas(48, 64)

PROFILE = StageProfile(
    threads=2,
    runs=20,
    peaks={"a large matrix product": 80.0, "a large 3x3 convolution": 100.0},
    median_ms=20.0,
    stages=(StageTime("matching", 500_000_000, 10.0, 50.0, 0.5), StageTime("joining", 0, 8.0, 0.0, 0.0)),
    operators={"MatMul": 10.0, "Gather": 8.0},
    inserted_ms=0.0,
    unattributed_ms=0.5,
    outside_ms=1.5,
)


def measurement(title: str, way: WayName, clients: int, median_ms: float, pictures_per_s: float) -> Measurement:
    quantiles = {str(percent): median_ms * (1 + (percent - 50) / 1000) for percent in QUANTILES}
    # A machine that gets slower all the time: no round is like another, the ways' differences and ratios stay.
    turns = [Turn(median_ms + 5 * number, pictures_per_s / (1 + number)) for number in range(3)]
    return Measurement(title, CANVAS, way, clients, 50, quantiles, pictures_per_s, 123.0, turns)


@pytest.fixture
def benchmark() -> Benchmark:
    """One model: the session takes 20 ms, gRPC adds 2 ms, the published architecture takes 200 ms."""
    title = "tiny (copying)"
    return Benchmark(
        machine=Machine("A processor", 2, 8.0, "Linux x86_64", 0.5, {"python": "3.11"}),
        date="2026-11-22T12:00:00+00:00",
        threads=2,
        calls=50,
        subjects=[SubjectRecord(title, CANVAS, "copying", "fp32", 9, "ab" * 32, ServingSettings(reason="measured"))],
        measurements=[
            measurement(REFERENCE_TITLE, "reference", 1, 200, 5),
            measurement(title, "onnxruntime", 1, 20, 50),
            measurement(title, "grpc", 1, 22, 45.5),
            measurement(title, "shared memory", 1, 21, 47.6),
            measurement(title, "onnxruntime", 8, 100, 80),
            measurement(title, "grpc", 8, 105, 76),
            measurement(title, "shared memory", 8, 102, 78),
        ],
        profiles=[ProfileRecord(title, CANVAS, PROFILE)],
    )

"""What judging a generator came to: its figures by target, as ``evaluation.json`` in the run folder or bundle.

The figures themselves are measured in ``semia.evaluation.figures`` and ``semia.evaluation.seams``; this module needs
none of their packages, so that an export can carry figures that were measured elsewhere.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semia.core.files import write_text
from semia.core.labels import Canvas
from semia.training.errors import EvaluationError, writing

EVALUATION_FILE = "evaluation.json"
EVALUATION_SHEET = "evaluation.png"
FORMAT = 1
"""Raised when the file's meaning changes."""


@dataclass(frozen=True)
class Figures:
    """One picture's figures, or means of several; None where nothing could be measured.

    ``semia.evaluation.figures`` and ``semia.evaluation.seams`` define them.
    """

    align: float | None  # 0 to 1, higher is better
    swd: float | None  # 0 or more, lower is better; so are the others
    coherence: float | None
    complete: float | None
    sharp: float | None
    seams: float | None = None  # files from before it was measured lack it

    def __post_init__(self) -> None:
        for name, value in self.measured().items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise EvaluationError(f"the figure {name} cannot be {value!r}")

    def measured(self) -> dict[str, float]:
        """The figures that are there, by name."""
        return {name: value for name, value in self.to_dict().items() if value is not None}

    def rounded(self) -> "Figures":
        """To six places: what is beyond differs between machines."""
        return Figures(**{name: None if value is None else round(value, 6) for name, value in self.to_dict().items()})

    def to_dict(self) -> dict[str, float | None]:
        """Every figure by name."""
        return dataclasses.asdict(self)

    @classmethod
    def mean(cls, several: Iterable["Figures"]) -> "Figures":
        """Each figure's mean over those that have it, rounded."""
        measured = [figures.measured() for figures in several]
        means: dict[str, float | None] = {}
        for field in dataclasses.fields(cls):
            values = [figures[field.name] for figures in measured if field.name in figures]
            means[field.name] = sum(values) / len(values) if values else None
        return cls(**means).rounded()


@dataclass(frozen=True)
class Evaluation:
    """The figures of one generator on the targets of one scene."""

    name: str  # of the run or model
    generator_sha256: str  # whose pictures were judged
    size: Canvas  # at which pictures were judged; figures of other sizes do not compare
    targets: Mapping[str, Figures]  # by file stem of the target
    versions: Mapping[str, str]  # of the packages that decide the figures
    evaluated_at: str  # ISO 8601, UTC

    def __post_init__(self) -> None:
        if not self.targets:
            raise EvaluationError(f"{self.name} was evaluated on no target")

    @property
    def mean(self) -> Figures:
        """The figures' means over the targets."""
        return Figures.mean(self.targets.values())

    def quality(self) -> dict[str, float]:
        """What the model card says: the means, over how many targets, at which width in pixels."""
        return {**self.mean.measured(), "targets": len(self.targets), "width": self.size.width}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a figure that could not be measured is null."""
        return {
            "name": self.name,
            "generator_sha256": self.generator_sha256,
            "width": self.size.width,
            "height": self.size.height,
            "mean": self.mean.to_dict(),
            "targets": {stem: figures.to_dict() for stem, figures in self.targets.items()},
            "versions": dict(self.versions),
            "evaluated_at": self.evaluated_at,
        }

    def write(self, path: Path) -> None:
        """Write the evaluation as indented JSON, whole or not at all; a TrainingError if the disk refuses."""
        with writing(f"write {path}"):
            write_text(path, json.dumps({"format": FORMAT, **self.to_dict()}, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """Read an evaluation; an EvaluationError if the file is missing or is something else."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise EvaluationError(f"format {content['format']}, while this version reads format {FORMAT}")
            return cls(
                name=content["name"],
                generator_sha256=content["generator_sha256"],
                size=Canvas(content["height"], content["width"]),
                targets={stem: Figures(**figures) for stem, figures in content["targets"].items()},
                versions=content["versions"],
                evaluated_at=content["evaluated_at"],
            )
        except FileNotFoundError:
            raise EvaluationError(f"no evaluation at {path}: make one with `semia evaluate`") from None
        except (EvaluationError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise EvaluationError(f"{path} is not an evaluation: {type(error).__name__}: {error}") from error


def quality_of_run(run: Path, generator_sha256: str) -> dict[str, float] | None:
    """What a run's latest evaluation says for the model card; None if it has none of this very generator.

    Raises:
        EvaluationError: if there is one and it cannot be read.
    """
    path = run / EVALUATION_FILE
    if not path.is_file():
        return None
    evaluation = Evaluation.read(path)
    return evaluation.quality() if evaluation.generator_sha256 == generator_sha256 else None

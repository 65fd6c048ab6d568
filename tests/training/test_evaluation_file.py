import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from semia.core.labels import Canvas
from semia.training.errors import EvaluationError
from semia.training.evaluation_file import EVALUATION_FILE, Evaluation, Figures, quality_of_run

GENERATOR = "0" * 64
EVALUATION = Evaluation(
    name="tiny",
    generator_sha256=GENERATOR,
    size=Canvas(height=44, width=60),
    targets={
        "moved": Figures(align=0.8, swd=10.0, coherence=0.4, complete=0.5, sharp=0.2, seams=90.0),
        "specks": Figures(align=0.6, swd=None, coherence=None, complete=None, sharp=None),
    },
    versions={"numpy": "1.26.4"},
    evaluated_at="2026-11-22T12:00:00+00:00",
)
MEANS = {"align": 0.7, "swd": 10.0, "coherence": 0.4, "complete": 0.5, "sharp": 0.2, "seams": 90.0}


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    EVALUATION.write(tmp_path / "evaluation.json")
    assert Evaluation.read(tmp_path / "evaluation.json") == EVALUATION


def test_what_was_not_measured_is_null_and_left_out_of_the_means(tmp_path: Path) -> None:
    EVALUATION.write(tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["targets"]["specks"] == dict.fromkeys(["swd", "coherence", "complete", "sharp", "seams"]) | {
        "align": 0.6
    }
    assert content["mean"] == MEANS


def test_the_card_says_over_how_many_targets_and_at_which_width() -> None:
    assert EVALUATION.quality() == MEANS | {"targets": 2, "width": 60}
    specks = dataclasses.replace(EVALUATION, targets={"specks": EVALUATION.targets["specks"]})
    assert specks.quality() == {"align": 0.6, "targets": 1, "width": 60}


def test_an_evaluation_from_before_seams_is_read_without(tmp_path: Path) -> None:
    EVALUATION.write(tmp_path / EVALUATION_FILE)
    content = json.loads((tmp_path / EVALUATION_FILE).read_text())
    for figures in (content["mean"], *content["targets"].values()):
        del figures["seams"]
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(content))
    assert Evaluation.read(tmp_path / EVALUATION_FILE).targets["moved"].seams is None
    quality = quality_of_run(tmp_path, GENERATOR)
    assert quality is not None
    assert quality.keys() == {*MEANS, "targets", "width"} - {"seams"}


def test_a_run_has_the_quality_of_its_own_generator_alone(tmp_path: Path) -> None:
    assert quality_of_run(tmp_path, GENERATOR) is None
    EVALUATION.write(tmp_path / EVALUATION_FILE)
    assert quality_of_run(tmp_path, GENERATOR) == EVALUATION.quality()
    assert quality_of_run(tmp_path, "1" * 64) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, "good", True])
def test_a_figure_is_a_number_or_none(value: Any) -> None:
    with pytest.raises(EvaluationError, match="the figure swd cannot be"):
        Figures(align=1.0, swd=value, coherence=0.0, complete=0.0, sharp=0.0)


def test_no_target_is_no_evaluation() -> None:
    with pytest.raises(EvaluationError, match="on no target"):
        dataclasses.replace(EVALUATION, targets={})


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"targets": {}}, {"targets": {"a": {"align": 1.0}}}, {"targets": {"a": 5}}, {"targets": []}],
    ids=repr,
)
def test_what_is_no_evaluation_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "evaluation.json"
    EVALUATION.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EvaluationError, match=r"evaluation\.json is not an evaluation: "):
        Evaluation.read(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '"text"'])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(EvaluationError, match="is not an evaluation"):
        Evaluation.read(tmp_path / "evaluation.json")


def test_an_absent_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="make one with `semia evaluate`"):
        Evaluation.read(tmp_path / "evaluation.json")

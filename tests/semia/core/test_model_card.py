"""The model card goes to disk and back, and nothing else passes for one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from semia.core.errors import InputError
from semia.core.labels import Canvas
from semia.core.model_card import EngineCard, GraphReport, GraphStage, ModelCard, PrecisionCheck, TargetParity
from semia.core.palette import Palette

CARD = ModelCard(
    name="building",
    preset="quick",
    canvas_height=376,
    canvas_width=568,
    palette=("#00F900", "#FF9300"),
    class_names=("lawn", "house"),
    parameters=1_000_000,
    iterations=2000,
    precision="fp32",
    opset=18,
    generator_sha256="0" * 64,
    graph_sha256="1" * 64,
    versions={"semia": "0.1.0"},
    parity_tolerance=1,
    parity=(TargetParity("1", max_abs=1, mean_abs=0.01), TargetParity("2", max_abs=0, mean_abs=0)),
    exported_at="2026-11-22T12:00:00+00:00",
    quality={"lpips": 0.2, "ssim": 1},
)

CHECK = PrecisionCheck(
    psnr={"1": 50.5, "2": 99.0},
    min_psnr=45.0,
    speedup=1.3,
    faster_share=0.9,
    measured_on="this machine's CPU, 2 threads",
    meant_for="this machine",
)

GRAPH = GraphReport({"Conv": 3, "Add": 1}, (GraphStage("encoder", 2, 1_000), GraphStage("decoder", 2, 0)))

REQUIRED = [field.name for field in dataclasses.fields(ModelCard) if field.default is dataclasses.MISSING]


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        dataclasses.replace(CARD, quality=None, class_names=(), parity=(), generator="copying"),
        dataclasses.replace(CARD, graph=GRAPH),
        dataclasses.replace(CARD, precision="int8", precision_check=CHECK),
        dataclasses.replace(
            CARD, precision="bf16", precision_check=dataclasses.replace(CHECK, speedup=None, faster_share=None)
        ),
    ],
)
def test_a_card_is_read_as_it_was_written(tmp_path: Path, card: ModelCard) -> None:
    path = tmp_path / "model_card.json"
    card.write(path)
    assert ModelCard.read(path) == card
    assert path.read_text().endswith("}\n")


def test_a_card_knows_its_canvas_and_palette() -> None:
    assert CARD.canvas == Canvas(height=376, width=568)
    assert CARD.to_palette() == Palette(((0, 249, 0), (255, 147, 0)), ("lawn", "house"))


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_noticed(tmp_path: Path, field: str) -> None:
    content = json.loads(CARD.to_json())
    del content[field]
    path = tmp_path / "model_card.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"model_card\.json is not a model card.*" + field):
        ModelCard.read(path)


def test_a_card_that_does_not_name_its_generator_is_the_published_ones(tmp_path: Path) -> None:
    content = json.loads(CARD.to_json())
    del content["generator"]
    path = tmp_path / "model_card.json"
    path.write_text(json.dumps(content))
    assert ModelCard.read(path).generator == "published"


@pytest.mark.parametrize("field", ["graph", "precision_check", "engine"])
def test_a_card_from_before_there_was_a_field_is_read(tmp_path: Path, field: str) -> None:
    content = json.loads(CARD.to_json())
    del content[field]
    path = tmp_path / "model_card.json"
    path.write_text(json.dumps(content))
    assert ModelCard.read(path) == CARD


ENGINE = EngineCard("10.16.1", "NVIDIA H200", "9.0", "fp32", 1, 8, "cd" * 32, (TargetParity("source", 1, 0.01),))


def test_an_engine_is_on_the_card(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, engine=ENGINE)
    card.write(tmp_path / "model_card.json")
    assert ModelCard.read(tmp_path / "model_card.json") == card


WRONG: list[tuple[str, Any]] = [
    ("graph", []),
    ("graph", {"operators": {"Conv": 1}}),
    ("graph", {"operators": {"Conv": "1"}, "stages": []}),
    ("graph", {"operators": {}, "stages": [{"name": "encoder", "nodes": 1, "flops": 0.5}]}),
    ("name", "../etc"),
    ("name", 7),
    ("preset", None),
    ("canvas_height", "376"),
    ("canvas_height", 0),
    ("canvas_width", -1),
    ("canvas_width", True),
    ("canvas_width", 3.5),
    ("palette", []),
    ("palette", ["red"]),
    ("palette", [1, 2]),
    ("palette", "#00F900"),
    ("palette", 5),
    ("class_names", ["only one"]),
    ("class_names", [1, 2]),
    ("class_names", None),
    ("parameters", "many"),
    ("iterations", "many"),
    ("opset", [18]),
    ("versions", ["semia"]),
    ("versions", {"semia": 1}),
    ("parity", [{"target": "1"}]),
    ("parity", [{"target": "1", "max_abs": "1", "mean_abs": 0.0}]),
    ("parity", [5]),
    ("parity", {"target": "1"}),
    ("quality", {"lpips": "good"}),
    ("quality", [0.2]),
    ("precision", "fp12"),
    ("precision_check", {"psnr": {}}),
    ("precision_check", dataclasses.asdict(CHECK) | {"speedup": "fast"}),
    ("precision_check", dataclasses.asdict(CHECK) | {"psnr": {"1": "good"}}),
    ("precision_check", dataclasses.asdict(CHECK) | {"meant_for": "anywhere"}),
    ("generator", "best"),
    ("generator", None),
    ("engine", "fast"),
    ("engine", {"tensorrt": "10.16.1"}),
    ("engine", dataclasses.asdict(ENGINE) | {"max_batch": "8"}),
    ("unheard_of", 1),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=repr)
def test_a_mistyped_field_is_noticed(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "model_card.json"
    path.write_text(json.dumps(json.loads(CARD.to_json()) | {field: value}))
    with pytest.raises(InputError, match=r"model_card\.json is not a model card"):
        ModelCard.read(path)


def test_an_imported_generators_card_leaves_its_iterations_open(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, iterations=None)
    card.write(tmp_path / "model_card.json")
    assert ModelCard.read(tmp_path / "model_card.json") == card


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"null", b'"text"', b"{", b"\xff\xfe", b"{}"])
def test_what_is_no_card_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model_card.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a model card"):
        ModelCard.read(path)


def test_an_absent_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model card at .*absent\.json"):
        ModelCard.read(tmp_path / "absent.json")

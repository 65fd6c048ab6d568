"""`semia evaluate` and `semia compare` on a tiny run, and on a bundle that paints every class in its color."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from semia.cli import app
from semia.cli.compare import TILE_WIDTH, random_orders
from semia.core.contact_sheet import CAPTION_HEIGHT, GAP
from semia.core.errors import InputError
from semia.core.images import RGB, read_rgb, write_rgb
from semia.core.labels import ClassIds
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.core.palette import Palette
from semia.evaluation import generators
from semia.evaluation.evaluate import EvaluatedGenerator
from semia.evaluation.generators import open_comparable, open_generator
from semia.training.copying.preparation import prepare_run
from semia.training.copying.settings import CopyingSettings
from semia.training.evaluation_file import Evaluation
from semia.training.run_folder import PREPARED_FILE, RunFolder
from semia.training.scene import Scene

FIGURES = {"align", "swd", "coherence", "complete", "sharp", "seams"}


def semia(*arguments: str | Path) -> None:
    """The command, in this process: starting another takes longer than the work."""
    app([*map(str, arguments)], standalone_mode=False)


@pytest.fixture(autouse=True)
def _denormals(trained: Path) -> None:
    """Training, which the command does in a process of its own, has the processor flush them; NumPy warns of that."""
    torch.set_flush_denormal(False)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def bundle(make_bundle: Callable[..., Path], scene: Scene, tmp_path: Path) -> Path:
    """Of the scene's palette and canvas."""
    return make_bundle(tmp_path / "bundle", palette=scene.palette, height=scene.canvas.height, width=scene.canvas.width)


def test_a_run_is_evaluated_on_its_own_targets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    semia("evaluate", run, "--width", "60")
    evaluation = Evaluation.read(run / "evaluation.json")
    assert evaluation.targets.keys() == {"moved"}
    assert evaluation.mean.measured().keys() == FIGURES
    assert evaluation.size == (44, 60)
    assert evaluation.generator_sha256 == RunFolder.open(run).generator_sha256()
    assert read_rgb(run / "evaluation.png").shape[1] > 2 * 320
    output = capsys.readouterr().out
    assert "at 60x44" in output
    assert f"{evaluation.mean.align:.3f}" in output
    assert "seams ↓" in output
    assert f"{evaluation.mean.seams:.1f}" in output


def test_a_bundle_is_judged_against_the_scene_named(
    bundle: Path, scene_folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="holds no photograph to judge against: name its scene folder with --scene"):
        semia("evaluate", bundle)
    semia("evaluate", bundle, "--scene", scene_folder, "--width", "60")
    quality = ModelCard.read(bundle / CARD_FILE).quality
    assert quality == Evaluation.read(bundle / "evaluation.json").quality()
    assert quality["width"] == 60
    assert quality["seams"] > 0
    assert quality["sharp"] > 0.1  # flat colors have no texture

    sheet, compare = bundle / "c.png", bundle / "c.json"
    capsys.readouterr()
    semia("compare", bundle, run, "--width", "40", "--sheet", sheet, "--figures", compare)
    painted, drawn = json.loads(compare.read_text())["generators"]
    assert (painted["name"], drawn["name"]) == ("bundle", "run")
    assert (painted["training_seconds"], painted["preparation_seconds"]) == (None, None)
    assert drawn["training_seconds"] > 0
    assert drawn["preparation_seconds"] is None
    assert (painted["parameters"], drawn["parameters"] > 100) == (9, True)
    assert min(painted["milliseconds"], drawn["milliseconds"]) > 0
    assert painted["mean"].keys() == FIGURES
    assert read_rgb(sheet).shape[1] > 3 * 320
    table = capsys.readouterr().out
    assert all(
        word in table for word in ("bundle", "run", "align ↑", "seams ↓", "parameters", "made in", "ms a picture")
    )


def test_a_prepared_generator_is_compared_by_what_its_preparation_took(
    run: Path, scene: Scene, copying_settings: CopyingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = RunFolder.create(tmp_path / "prepared", scene, copying_settings)
    prepare_run(prepared, torch.device("cpu"))
    torch.set_flush_denormal(False)
    (prepared.path / PREPARED_FILE).write_text('{"seconds": 83.0}')
    semia(
        "compare", prepared.path, run, "--width", "40", "--sheet", tmp_path / "c.png", "--figures", tmp_path / "c.json"
    )
    copied, _ = json.loads((tmp_path / "c.json").read_text())["generators"]
    assert (copied["training_seconds"], copied["preparation_seconds"]) == (None, 83.0)
    (made_in,) = (line.split() for line in capsys.readouterr().out.splitlines() if "made in" in line)
    assert made_in[2] == "1:23"


LEVELS = {"dark": 30, "middling": 120, "bright": 210}


@pytest.fixture
def flat_subjects(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is compared, it is three generators that paint everything in one gray, as `LEVELS` has it."""
    one = open_generator(bundle)

    def painting(level: int) -> Callable[[ClassIds], RGB]:
        return lambda layout: np.full((*layout.shape, 3), level, dtype=np.uint8)

    subjects = [dataclasses.replace(one, name=name, draw=painting(level)) for name, level in LEVELS.items()]
    monkeypatch.setattr(generators, "open_comparable", lambda _: subjects)


ORDERS = {"here": ["middling", "dark", "bright"], "there": ["bright", "middling", "dark"]}


@pytest.mark.usefixtures("flat_subjects")
def test_the_key_says_whose_pictures_a_blind_sheet_shows(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def known_orders(
        targets: Sequence[str], results: Sequence[EvaluatedGenerator]
    ) -> dict[str, list[EvaluatedGenerator]]:
        by_name = {result.generator.name: result for result in results}
        return {target: [by_name[name] for name in ORDERS[target]] for target in targets}

    monkeypatch.setattr("semia.cli.compare.random_orders", known_orders)
    moved = scene_folder / "cond" / "moved.png"
    shutil.copy(moved, moved.with_name("here.png"))
    moved.rename(moved.with_name("there.png"))
    sheet = tmp_path / "sheet.png"
    semia("compare", scene_folder, "--scene", scene_folder, "--width", "40", "--sheet", sheet, "--blind")

    key = json.loads((tmp_path / "sheet.key.json").read_text())
    assert key["rows"] == ORDERS
    assert list(key["rows"]) == ["here", "there"], "from above to below"
    assert [entry["name"] for entry in key["generators"]] == list(LEVELS)
    assert key["generators"][0]["targets"]["here"].keys() == FIGURES
    shown, height = read_rgb(sheet), round(44 * TILE_WIDTH / 60)
    for row, names in enumerate(key["rows"].values(), start=1):
        top = GAP + row * (height + CAPTION_HEIGHT + GAP) + CAPTION_HEIGHT
        for column, name in enumerate(names, start=1):
            left = GAP + column * (TILE_WIDTH + GAP)
            assert (shown[top : top + height, left : left + TILE_WIDTH] == LEVELS[name]).all()
            assert (shown[top - CAPTION_HEIGHT : top, left : left + TILE_WIDTH] == 255).all(), "no caption"
    screen = capsys.readouterr().out
    assert str(tmp_path / "sheet.key.json") in screen
    assert not any(word in screen for word in ("align", "seams", "ms a picture"))


def test_orders_are_random_in_every_row_and_every_time() -> None:
    targets = [str(number) for number in range(100)]
    first, second = (random_orders(targets, ["a", "b", "c"]) for _ in range(2))
    assert list(first) == targets
    # That one of the six is missing among a hundred happens once in 10^7 times; that two draws agree, never.
    assert {tuple(order) for order in first.values()} == set(itertools.permutations("abc"))
    assert first != second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blind"], "--blind needs --sheet"),
        (["--blind", "--sheet", "s.png", "--figures", "f.json"], "--blind and --figures exclude each other"),
        (["--blind", "--sheet", "s.txt"], r"--sheet s\.txt is no picture file: end it in \.png"),
    ],
)
def test_options_that_would_not_leave_a_blind_sheet_are_refused(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        semia("compare", "a", "b", *options)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_results_elsewhere_leave_the_bundle_as_it_is(bundle: Path, scene_folder: Path, tmp_path: Path) -> None:
    published = tmp_path / "repository" / "tiny" / "1"
    shutil.copytree(bundle, published)
    (published.parent / "config.pbtxt").touch()
    with pytest.raises(InputError, match="is published and stays as it is: say where the results go with --out"):
        semia("evaluate", published, "--scene", scene_folder)
    before = (published / CARD_FILE).read_bytes()
    semia("evaluate", published, "--scene", scene_folder, "--width", "40", "--out", tmp_path / "results")
    assert Evaluation.read(tmp_path / "results" / "evaluation.json").name == "tiny/1"
    assert (published / CARD_FILE).read_bytes() == before
    assert sorted(path.name for path in published.iterdir()) == sorted([MODEL_FILE, CARD_FILE])


def test_what_is_no_generator_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is neither a run folder nor a bundle nor a published version"):
        open_generator(tmp_path)
    (bundle / MODEL_FILE).write_bytes(b"another graph")
    with pytest.raises(InputError, match=r"model\.onnx is not the graph its card describes"):
        open_generator(bundle)


def test_generators_of_different_scenes_are_not_compared(
    make_bundle: Callable[..., Path], bundle: Path, run: Path, scene: Scene, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least two runs or models, each once"):
        open_comparable([run, run])
    wide = make_bundle(tmp_path / "wide", palette=scene.palette, height=44, width=64)
    with pytest.raises(InputError, match=r"wide draws 64x44, .*run 60x44: compare generators of one size"):
        open_comparable([run, wide])
    gray = make_bundle(tmp_path / "gray", palette=Palette(((9, 9, 9), (99, 99, 99))), height=44, width=60)
    with pytest.raises(InputError, match=r"gray has the classes #090909, #636363, .*: compare generators of one scene"):
        open_comparable([run, gray])
    other = shutil.copytree(run, tmp_path / "other")
    write_rgb(other / "scene" / "img.png", np.flip(scene.image, axis=1))
    with pytest.raises(InputError, match=r"other was made of another photograph or label map than .*run"):
        open_comparable([bundle, run, other])


def test_equal_names_become_paths(bundle: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(bundle, tmp_path / "twin" / "bundle")
    assert [subject.name for subject in open_comparable([bundle, twin])] == [str(bundle), str(twin)]

"""`semia import` as a person uses it: a published checkpoint goes the whole way."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from semia.client import SynthesisClient
from semia.core.images import read_rgb
from semia.core.model_card import ModelCard
from semia.serving import ServerOptions, TritonServer
from semia.training.errors import RunError
from semia.training.loop import train
from semia.training.published.generator import Generator
from semia.training.published.layers import initialize
from semia.training.published.pretrained import public_name
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene, load_scene, save_scene
from semia.training.settings import TrainingSettings
from tests.command import complaint, semia, semia_here

TOLERANCE = 2


def save_public(generator: Generator, path: Path) -> Path:
    """Write a generator as the public code would."""
    state = {public_name(name): tensor for name, tensor in generator.state_dict().items()}
    unread = {f"encoder_c.tail_block.main.{name}": torch.zeros(4) for name in ("1.weight_orig", "2.bias")}
    torch.save(state | unread, path)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Path:
    """A checkpoint of width 8 and depth 2 whose norms have seen pictures; shared, so do not change it."""
    torch.manual_seed(0)
    generator = Generator(8, 2)
    initialize(generator, 1.0)
    for _ in range(10):
        generator(*(torch.rand(1, 3, 32, 32) * 2 - 1 for _ in range(3)))
    return save_public(generator, tmp_path_factory.mktemp("public") / "latest_net_G.pth")


@pytest.fixture(scope="session")
def imported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Path:
    """The imported run folder; shared, so do not change it."""
    folder = tmp_path_factory.mktemp("imported")
    save_scene(scene, folder / "Tiny Scene")
    result = semia("import", checkpoint, "--scene", "Tiny Scene", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "imported tiny-scene: width 8, depth 2, 60x44, 3 classes" in result.stdout
    assert "next: semia export runs/tiny-scene" in result.stdout
    return folder / "runs" / "tiny-scene"


def test_the_config_says_what_is_known_and_no_more(imported: Path, checkpoint: Path) -> None:
    content = json.loads((imported / "config.json").read_text())
    assert content["imported"]["checkpoint"] == "latest_net_G.pth"
    assert len(content["imported"]["sha256"]) == 64
    assert not {"seed", "settings", "patch_features"} & content.keys()

    run = RunFolder.open(imported)
    assert isinstance(run.config.settings, TrainingSettings)
    assert (run.config.settings.generator_width, run.config.settings.depth, run.config.settings.multiple) == (8, 2, 4)
    assert run.finished
    assert sorted(path.name for path in imported.iterdir()) == ["config.json", "generator.safetensors", "scene"]


@pytest.mark.usefixtures("embedded_triton")
def test_an_imported_generator_goes_the_whole_way(
    imported: Path, tmp_path: Path, server_options: Callable[[], ServerOptions]
) -> None:
    targets = imported / "scene" / "cond"
    result = semia("render", imported, "--targets", targets, "--out", tmp_path / "pictures")
    assert result.returncode == 0, result.stderr
    expected = read_rgb(tmp_path / "pictures" / "moved.png")
    assert expected.std() > 1

    result = semia("export", imported, "--bundle", tmp_path / "bundle")
    assert result.returncode == 0, result.stderr
    assert "not trained to its end" not in result.stdout
    card = ModelCard.read(tmp_path / "bundle" / "model_card.json")
    assert (card.preset, card.iterations) == ("imported", None)
    assert max(entry.max_abs for entry in card.parity) <= TOLERANCE

    result = semia("publish", tmp_path / "bundle", "--repository", tmp_path / "repository")
    assert result.returncode == 0, result.stderr
    with (
        TritonServer(tmp_path / "repository", server_options()) as server,
        SynthesisClient(server.grpc_url) as client,
    ):
        served = np.asarray(client.synthesize("tiny-scene", targets / "moved.png"))
    assert np.abs(served.astype(int) - expected.astype(int)).max() <= TOLERANCE


def test_a_run_that_is_there_is_replaced_only_when_told(checkpoint: Path, scene_folder: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["import", checkpoint, "--scene", scene_folder, "--run", tmp_path / "run"]
    assert semia(*arguments).returncode == 0
    (tmp_path / "run" / "mine.txt").write_text("notes")
    assert "holds a run already: choose another --run, or --overwrite it" in complaint(semia(*arguments), 2)
    assert (tmp_path / "run" / "mine.txt").is_file()
    result = semia(*arguments, "--overwrite", "--name", "other", "--resize", "0.8")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "run" / "mine.txt").exists()
    assert RunFolder.open(tmp_path / "run").scene.canvas == (35, 48)

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    arguments[-1] = tmp_path / "thesis"
    assert "not a run folder" in complaint(semia(*arguments, "--overwrite"), 2)
    assert (tmp_path / "thesis" / "chapter.txt").is_file()


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_an_imported_run_cannot_be_trained_on(imported: Path, options: list[str]) -> None:
    before = (imported / "generator.safetensors").read_bytes()
    command: list[str | Path] = [
        "train",
        imported.parents[1] / "Tiny Scene",
        "--run",
        imported,
        *options,
    ]
    assert "imported generator, without the networks to train it on" in complaint(semia_here(*command), 2)
    with pytest.raises(RunError, match="imported generator"):
        train(RunFolder.open(imported), torch.device("cpu"))
    assert (imported / "generator.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda folder: (folder / "latest_net_G.pth").write_bytes(b"no checkpoint"), "broken or not a plain state"),
        (lambda folder: (folder / "latest_net_G.pth").unlink(), "no checkpoint at"),
        (lambda folder: torch.save({}, folder / "latest_net_G.pth"), "not a published SemIA generator"),
        (lambda folder: (folder / "Tiny Scene" / "img.png").rename(folder / "moved.png"), "has no img picture"),
        (lambda folder: (folder / "Tiny Scene").rename(folder / "moved"), "no scene folder at"),
        (lambda folder: save_public(Generator(4, 6), folder / "latest_net_G.pth"), "of depth 6 needs more than 64"),
    ],
)
def test_what_is_broken_is_one_line_and_leaves_nothing(
    breakage: Callable[[Path], object], message: str, checkpoint: Path, scene_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "latest_net_G.pth").write_bytes(checkpoint.read_bytes())
    breakage(tmp_path)
    result = semia_here("import", tmp_path / "latest_net_G.pth", "--scene", scene_folder, "--run", tmp_path / "run")
    assert message in complaint(result, 2)
    assert not (tmp_path / "run").exists()


def test_a_scene_of_broken_links_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    for name in ("img.png", "label.png"):
        (tmp_path / "scene" / name).symlink_to(tmp_path / "gone" / name)
    result = semia_here("import", checkpoint, "--scene", tmp_path / "scene", "--run", tmp_path / "run")
    assert f"no such picture: {tmp_path / 'scene' / 'img.png'}" in complaint(result, 2)


def test_the_scene_is_kept_as_it_was_read(imported: Path, scene: Scene) -> None:
    kept = load_scene(imported / "scene")
    assert np.array_equal(kept.image, scene.image)
    assert np.array_equal(kept.labels, scene.labels)

"""Whatever somebody did to a published model's files is found and named."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from semia import serving
from semia.core.errors import InputError
from semia.core.files import sha256_of_file
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.core.palette import Palette
from semia.serving import verify, verify_exported

Change = Callable[[Path], object]


@pytest.fixture
def repository(tiny_bundle: Path, make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """Two versions of "tiny" and one of "other"."""
    repository = tmp_path / "repository"
    serving.publish(tiny_bundle, repository)
    newer = make_bundle(tmp_path / "newer", palette=Palette(((1, 2, 3), (4, 5, 6))))
    serving.publish(newer, repository, change_classes=True)
    serving.publish(tiny_bundle, repository, name="other")
    return repository


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_published_models_are_as_published(repository: Path) -> None:
    assert [(each.name, each.versions, each.files, each.problems) for each in verify(repository)] == [
        ("other", (1,), 2, ()),
        ("tiny", (1, 2), 4, ()),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tiny: flip_a_byte(tiny / "1" / MODEL_FILE), "1/model.onnx is not the graph its card describes"),
        (lambda tiny: flip_a_byte(tiny / "2" / MODEL_FILE), "2/model.onnx is not the graph its card describes"),
        (lambda tiny: (tiny / "1" / MODEL_FILE).unlink(), "1 has neither model.onnx nor model.plan"),
        (lambda tiny: (tiny / "1" / CARD_FILE).unlink(), "no model card at"),
        (lambda tiny: (tiny / "1" / CARD_FILE).write_text("{"), "1/model_card.json is not a model card"),
        (lambda tiny: replace(tiny / "2" / CARD_FILE, "test", "best"), "its model_card_sha256 is not that of the card"),
        (lambda tiny: (tiny / "config.pbtxt").write_text("input {"), "config.pbtxt cannot be read"),
        (lambda tiny: (tiny / "config.pbtxt").unlink(), "config.pbtxt cannot be read"),
        (lambda tiny: shutil.copyfile(tiny.parent / "other" / "config.pbtxt", tiny / "config.pbtxt"), "not of version"),
        (lambda tiny: replace(tiny / "config.pbtxt", '"tiny"', '"else"'), "config.pbtxt is of a model 'else'"),
        (lambda tiny: replace(tiny / "config.pbtxt", "#010203", "#FF0203"), "config.pbtxt has another palette than"),
        (lambda tiny: replace(tiny / "config.pbtxt", "dims: 48", "dims: 49"), "config.pbtxt has another input than"),
        (lambda tiny: (tiny / "2" / "extra.bin").write_bytes(b"x"), "2/extra.bin is not of a model"),
        (lambda tiny: (tiny / "notes").mkdir(), "notes is not of a model"),
    ],
)
def test_what_was_changed_is_named(repository: Path, change: Change, problem: str) -> None:
    change(repository / "tiny")
    other, tiny = verify(repository)
    assert other.problems == ()
    (found,) = tiny.problems
    assert problem in found
    assert "\n" not in found
    assert verify(repository, ("other",)) == [other]


def test_how_a_model_is_run_is_the_operators_business(repository: Path) -> None:
    replace(repository / "tiny" / "config.pbtxt", "count: 1", "count: 2")
    assert verify(repository)[1].problems == ()


def test_a_model_without_versions_is_named(repository: Path) -> None:
    (repository / "empty").mkdir()
    assert verify(repository, ("empty",))[0].problems == (f"{repository / 'empty'} has no version",)
    with pytest.raises(serving.RepositoryError, match="has no model 'nonesuch'; it has empty, other, tiny"):
        verify(repository, ("nonesuch",))


def test_the_newest_version_is_compared_with_what_was_exported(
    repository: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert verify_exported(repository, "tiny", bundle=tmp_path / "newer") == []
    (problem,) = verify_exported(repository, "tiny", bundle=tiny_bundle)
    assert problem == f"version 2 is another export than {tiny_bundle}"
    weights = tmp_path / "generator.safetensors"
    weights.write_bytes(b"weights")
    (problem,) = verify_exported(repository, "tiny", run=tmp_path)
    assert problem == f"version 2 was exported from another generator than that of {tmp_path}"
    card = dataclasses.replace(ModelCard.read(tiny_bundle / CARD_FILE), generator_sha256=sha256_of_file(weights))
    card.write(shutil.copytree(tiny_bundle, tmp_path / "exported") / CARD_FILE)
    serving.publish(tmp_path / "exported", repository, change_classes=True)
    assert verify_exported(repository, "tiny", bundle=tmp_path / "exported", run=tmp_path) == []
    with pytest.raises(InputError, match=r"has no generator\.safetensors"):
        verify_exported(repository, "tiny", run=repository)

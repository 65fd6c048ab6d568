"""``semia models`` and ``semia publish --url``, as an operator types them."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from semia import serving
from semia.cli import app
from semia.core.errors import InputError, SemiaError
from semia.core.palette import Palette
from semia.serving import TritonServer
from tests.command import complaint, semia

MakeBundle = Callable[..., Path]


def run(*arguments: str | Path) -> str:
    """What a command says; its error is raised."""
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rows(table: str) -> dict[str, list[str]]:
    """The columns of a table's rows by the first."""
    lines = [line.split() for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if line}


@pytest.fixture
def repository(tiny_bundle: Path, make_bundle: MakeBundle, tmp_path: Path) -> Path:
    """Two versions of "tiny", the newer one of two classes."""
    serving.publish(tiny_bundle, tmp_path / "repository")
    newer = make_bundle(tmp_path / "newer", palette=Palette(((1, 2, 3), (200, 5, 6)), ("sea", "sand")))
    serving.publish(newer, tmp_path / "repository", change_classes=True)
    return tmp_path / "repository"


@pytest.fixture
def url(free_ports: list[int]) -> str:
    """Nobody listens there."""
    return f"127.0.0.1:{free_ports[0]}"


@pytest.fixture
def served(triton: TritonServer) -> Iterator[tuple[str, ...]]:
    """The options for the server that all share, and its repository; the model "operated" is gone afterwards."""
    yield "--repository", str(triton.repository), "--url", triton.grpc_url
    if (triton.repository / "operated").exists():
        serving.remove(triton.repository, "operated", url=triton.grpc_url)


def test_models_are_listed_without_a_server(repository: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("semia.cli.models.DEFAULT_URL", url)
    listing = run("models", "--repository", repository)
    assert listing == run("models", "list", "--repository", repository)
    assert rows(listing)["tiny"][:4] == ["1,", "2", "unknown", "64x48"]
    assert "#010203 sea" in listing
    assert "#C80506 sand" in listing
    assert f"no server answers at {url}" in listing
    serving.rollback(repository, "tiny", change_classes=True)
    assert rows(run("models", "--repository", repository))["tiny"][:3] == ["1,", "2,", "3=1"]
    with pytest.raises(SemiaError, match=f"^no Triton server answers at {url}"):
        run("models", "--repository", repository, "--url", url)


def test_the_servers_address_may_come_from_the_environment(
    repository: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SEMIA_URL", url)
    with pytest.raises(SemiaError, match=f"^no Triton server answers at {url}"):
        run("models", "--repository", repository)
    monkeypatch.setenv("SEMIA_TLS_CA", str(repository / "absent.pem"))
    with pytest.raises(InputError, match=r"cannot read .*absent\.pem"):
        run("models", "list", "--repository", repository)


def test_options_come_after_the_name_of_what_they_are_for(repository: Path) -> None:
    with pytest.raises(InputError, match="options of `semia models prune` come after its name"):
        run("models", "--repository", repository, "prune", "--all")


def test_a_listing_for_programs(repository: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("semia.cli.models.DEFAULT_URL", url)
    listing: dict[str, Any] = json.loads(run("models", "list", "--repository", repository, "--json"))
    assert f"no Triton server answers at {url}" in listing["server_problem"]
    (tiny,) = listing["models"]
    assert (tiny["name"], tiny["versions"], tiny["serving"], tiny["state"]) == ("tiny", [1, 2], None, "unknown")
    assert tiny["canvas"] == "64x48"
    assert tiny["palette"] == ["#010203", "#C80506"]
    assert tiny["exported_at"] == "2026-11-22T12:00:00+00:00"
    assert tiny["size_bytes"] == sum(path.stat().st_size for path in (repository / "tiny").rglob("*.*"))


def test_a_model_from_publishing_to_removal(
    served: tuple[str, ...], repository: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    target, url = served[:2], served[3]
    publish = ("--name", "operated", "--load", url, *target)
    assert f"1 (model operated, version 1); {url} serves it" in run("publish", tiny_bundle, *publish)
    with pytest.raises(InputError, match="would change their meaning: 0 was #FF0000 roof and would be #010203 sea"):
        run("publish", tmp_path / "newer", *publish)
    said = run("publish", tmp_path / "newer", "--keep", "1", "--change-classes", *publish)
    assert "deleted: version 1" in said
    assert rows(run("models", *served))["operated"][:4] == ["*2", "ready", "64x48", "0.0"]

    with pytest.raises(SemiaError, match="version 2 of 'operated' is the oldest: there is none to roll back to"):
        run("models", "rollback", "operated", *served)
    run("publish", tiny_bundle, "--change-classes", *publish)
    with pytest.raises(InputError, match=r"would change their meaning: .*: roll back with --change-classes if that is"):
        run("models", "rollback", "operated", *served)
    assert f"version 4, which is version 2 again)\n{url} now serves operated version 4" in run(
        "models", "rollback", "operated", "--change-classes", *served
    )
    assert rows(run("models", *served))["operated"][:5] == ["2,", "3,", "*4=2", "ready", "64x48"]
    assert rows(run("models", "verify", "operated", *target))["operated"] == ["2,", "3,", "4", "6", "as", "published"]
    assert "operated: deleted versions 2, 3" in run("models", "prune", "operated", "--keep", "1", *served)
    assert "tiny: nothing to delete" in run("models", "prune", "--all", *served)

    assert f"{url} no longer serves operated" in run("models", "unload", "operated", "--url", url)
    assert rows(run("models", *served))["operated"][:3] == ["4", "not", "loaded"]
    assert f"{url} now serves operated version 4" in run("models", "load", "operated", "--url", url)
    with pytest.raises(InputError, match=r"removing 'operated' deletes its version 4 for good: add --yes"):
        run("models", "remove", "operated", *served)
    assert "removed: operated, version 4" in run("models", "remove", "operated", "--yes", *served)
    assert "operated" not in run("models", *served)


def test_models_that_only_the_server_knows_are_listed(
    served: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listing = run("models", "--url", served[3])
    assert rows(listing)["tiny"][:4] == ["*1", "ready", "64x48"]
    assert "roof" in listing


def test_problems_are_a_line_each_and_status_1(repository: Path) -> None:
    (repository / "tiny" / "1" / "model.onnx").write_bytes(b"rotten")
    (repository / "tiny" / "config.pbtxt").unlink()
    result = semia("models", "verify", "--repository", repository)
    assert result.returncode == 1
    first, second = result.stderr.splitlines()
    assert first.startswith("semia: tiny: ")
    assert "is not the graph its card describes" in first
    assert "config.pbtxt cannot be read" in second
    assert "2 problems" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load", "tiny", "--url", "URL"], "no Triton server answers at"),
        (["rollback", "nonesuch", "--repository", "REPOSITORY"], "has no model 'nonesuch'; it has tiny"),
        (["rollback", "tiny", "--to", "9", "--repository", "REPOSITORY"], "has no version 9; it has 1, 2"),
        (["prune", "--repository", "REPOSITORY"], "say which model to prune: NAME, or --all"),
        (["prune", "--all", "tiny", "--repository", "REPOSITORY"], "say which model to prune: NAME, or --all"),
        (["remove", "../tiny", "--repository", "REPOSITORY"], "cannot name a model"),
        (["remove", "tiny", "--yes", "--repository", "REPOSITORY", "--url", "URL"], "no Triton server answers at"),
        (["verify", "--bundle", "x", "--repository", "REPOSITORY"], "give one NAME"),
        (["verify", "--repository", "nowhere"], "no such model repository: nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(repository: Path, url: str, arguments: list[str], message: str) -> None:
    known = {"REPOSITORY": str(repository), "URL": url}
    with pytest.raises(SemiaError, match=message) as caught:
        run("models", *(known.get(argument, argument) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert serving.list_models(repository)[0].versions == (1, 2)


def test_an_unknown_model_is_named_with_those_there_are(triton: TritonServer) -> None:
    unloading = semia("models", "unload", "nonesuch", "--url", triton.grpc_url)
    assert re.search("has no model 'nonesuch'; it has .*tiny", complaint(unloading, 2))

"""What README, docs/ and the other pages tell their readers is so: links, commands, Python blocks."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semia.cli import app
from semia.core.palette import Palette
from semia.serving import TritonServer
from tests.command import semia

PROJECT = Path(__file__).parents[1]
PAGES = [
    *sorted(PROJECT.glob("*.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
    PROJECT / "serving" / "deploy" / "README.md",
    PROJECT / "examples" / "scenes" / "README.md",
]
MAX_README_LINES = 150

BLOCK = re.compile(
    r"(?P<needs><!-- needs: .* -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)
"""A fenced block; a comment above says what it needs beyond what tests have."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The blocks that tests can run."""
    found = BLOCK.finditer(text_of(page))
    return [each["text"] for each in found if each["language"] == language and each["needs"] is None]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("semia ")]


def test_the_readme_is_short() -> None:
    assert len(text_of(PROJECT / "README.md").splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(page)):
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_command_and_its_options_exist(page: Path) -> None:
    named = {
        first or second for first, second in re.findall(r"^semia ([a-z][a-z-]*)|`semia ([a-z][a-z-]*)", text_of(page))
    }
    lines = [*commands(page), *(f"semia {name}" for name in named)]
    for line in lines:
        # Options are parsed before --help ends the command.
        assert app([*shlex.split(line, comments=True)[1:], "--help"], standalone_mode=False) in (0, None), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z/-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z/-]+)", text_of(page), re.MULTILINE)) <= targets


def test_the_readmes_two_commands() -> None:
    assert {"make demo", "make test"} <= set(
        re.findall(r"^(make [a-z]+)", text_of(PROJECT / "README.md"), re.MULTILINE)
    )


def test_the_readmes_four_commands_as_shown(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(scene_folder, tmp_path / "pagoda")
    monkeypatch.chdir(tmp_path)
    lines = commands(PROJECT / "README.md")
    assert len(lines) == 4
    for line in lines:
        result = semia(*shlex.split(line, comments=True)[1:])
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "model_repository" / "pagoda" / "1" / "model.onnx").is_file()


PYTHON_BLOCKS = {page.relative_to(PROJECT).as_posix(): found for page in PAGES if (found := blocks(page, "python"))}


def test_every_python_block_is_run_here() -> None:
    assert {page: len(found) for page, found in PYTHON_BLOCKS.items()} == {
        "README.md": 1,
        "docs/client.md": 3,
        "docs/python-api.md": 1,
    }


@pytest.mark.usefixtures("embedded_triton")
@pytest.mark.parametrize("page", ["README.md", "docs/python-api.md"])
def test_from_a_photograph_to_a_served_picture_as_shown(
    page: str, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_ports: list[int]
) -> None:
    shutil.copytree(scene_folder, tmp_path / "pagoda")
    monkeypatch.chdir(tmp_path)
    # The default ports may be taken.
    grpc_port, metrics_port = free_ports
    ports = f"semia.ServerOptions(grpc_port={grpc_port}, metrics_port={metrics_port})"
    (block,) = PYTHON_BLOCKS[page]
    names: dict[str, Any] = {}
    exec(block.replace('TritonServer("model_repository")', f'TritonServer("model_repository", {ports})'), names)
    picture, served = (np.asarray(names[name]).astype(int) for name in ("picture", "served"))
    assert np.abs(picture - served).max() <= 2
    assert served.std() > 1, "a picture, not one color"


@pytest.mark.parametrize("number", [0, 1])
def test_our_client_as_shown(
    number: int,
    triton: TritonServer,
    tiny_palette: Palette,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = np.full((48, 64), 2, dtype=np.uint8)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(tiny_palette.render(ids)).save("layout.png")
    block = PYTHON_BLOCKS["docs/client.md"][number]
    exec(block.replace("127.0.0.1:8001", triton.grpc_url).replace('"pagoda"', '"tiny"'), {})
    assert np.array_equal(np.asarray(Image.open("picture.png")), tiny_palette.render(ids))


def test_the_bare_client_as_shown(triton: TritonServer, tiny_palette: Palette) -> None:
    block = PYTHON_BLOCKS["docs/client.md"][2]
    assert len(block.strip().splitlines()) < 15
    names: dict[str, Any] = {}
    exec(block, names)
    ids = np.zeros((48, 64), dtype=np.uint8)
    ids[:, 32:] = 2
    assert np.array_equal(names["synthesize"](triton.grpc_url, "tiny", ids), tiny_palette.render(ids))

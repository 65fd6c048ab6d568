"""What the README tells its readers to type works."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semia.cli import app
from semia.core.palette import Palette
from semia.serving import TritonServer

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
OUR_CLIENT, BARE_CLIENT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_our_client_as_shown(
    triton: TritonServer, tiny_palette: Palette, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.full((48, 64), 2, dtype=np.uint8)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(tiny_palette.render(ids)).save("layout.png")
    exec(OUR_CLIENT.replace("127.0.0.1:8001", triton.grpc_url).replace('"pagoda"', '"tiny"'), {})
    assert np.array_equal(np.asarray(Image.open("picture.png")), tiny_palette.render(ids))


def test_the_bare_client_as_shown(triton: TritonServer, tiny_palette: Palette) -> None:
    assert len(BARE_CLIENT.strip().splitlines()) < 15
    names: dict[str, Any] = {}
    exec(BARE_CLIENT, names)
    ids = np.zeros((48, 64), dtype=np.uint8)
    ids[:, 32:] = 2
    assert np.array_equal(names["synthesize"](triton.grpc_url, "tiny", ids), tiny_palette.render(ids))


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert links
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in README.splitlines()}
    for link in links:
        target, _, anchor = link.partition("#")
        assert not target or (PROJECT / target).exists(), link
        assert not anchor or anchor in headings, link


def test_every_command_named_exists() -> None:
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = set(re.findall(r"^semia ([a-z][a-z-]*)|`semia ([a-z][a-z-]*)", README, re.MULTILINE))
    assert {first or second for first, second in named} <= commands
    assert {"make demo", "make test"} <= set(re.findall(r"^(make [a-z]+)", README, re.MULTILINE))

"""The page's own code: its tests, run by Node, and its types, where `tsc` is."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import playwright
import pytest

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "studio" / "page"
TESTS = Path(__file__).with_name("page")

MAX_PAGE_BYTES = 200_000
"""Of all of the page's files."""


def node() -> str:
    """The system's Node, or the one that playwright carries."""
    return shutil.which("node") or str(Path(playwright.__file__).parent / "driver" / "node")


def test_tools_in_node() -> None:
    command = [node(), "--test", *map(str, sorted(TESTS.glob("*.test.mjs")))]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_types(tmp_path: Path) -> None:
    tsc = shutil.which("tsc") or shutil.which("tsc", path=PROJECT / "build" / "node" / "node_modules" / ".bin")
    if tsc is None:
        pytest.skip("no tsc: `make build/node` installs it, with npm")
    options = json.loads((PAGE / "jsconfig.json").read_text(encoding="utf-8"))
    options["include"] = [f"{PAGE}/**/*.js"]
    (tmp_path / "tsconfig.json").write_text(json.dumps(options), encoding="utf-8")
    run = subprocess.run([tsc, "-p", tmp_path], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout


def test_the_page_is_small_and_packaged() -> None:
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_PAGE_BYTES
    data = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    packaged = {path for pattern in data["semia.studio"] for path in (PROJECT / "studio").glob(pattern)}
    assert {*files} <= packaged

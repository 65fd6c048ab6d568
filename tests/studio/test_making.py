"""From the page to a model that answers: prepared, exported, published, with news on the way."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semia.studio.frames import pack, unpack
from tests.studio.running import Visitor, settings_in, visit


async def _end_of(visitor: Visitor, wanted: str = "") -> dict[str, Any]:
    for _ in range(6000):
        async with visitor.ask("GET", "/api/job") as answer:
            job: dict[str, Any] = await answer.json()
        if job["state"] != "running" or (wanted and job["stage"] == wanted):
            return job
        await asyncio.sleep(0.05)
    raise AssertionError(f"still running: {job}")


@pytest.fixture(autouse=True)
def _one_thread_for_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny layers on several threads wait for one another most of the time."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


STAND_IN = """
import shutil, subprocess, sys
arguments = sys.argv[1:]
if "export" in arguments:
    shutil.copytree(BUNDLE, arguments[arguments.index("--bundle") + 1])
else:
    sys.exit(subprocess.run([sys.executable, "-m", "semia", *arguments]).returncode)
"""
"""The command, but for exporting: that takes a third of a minute, and has tests of its own."""


@pytest.mark.usefixtures("embedded_triton")
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_generator_is_made_and_answers(
    scene_folder: Path, tmp_path: Path, make_bundle: Callable[..., Path], whole: bool
) -> None:
    bundle = make_bundle(tmp_path / "exported", name="tiny-scene", height=44, width=60)

    async def errand(visitor: Visitor) -> None:
        scene = "/api/scenes/tiny-scene"
        if not whole:
            program = STAND_IN.replace("BUNDLE", repr(str(bundle)))
            visitor.studio.workshop._semia = (sys.executable, "-c", program)
        async with visitor.ask("POST", f"{scene}/job", data='{"preset": "default"}') as answer:
            assert (await answer.json())["state"] == "running"
        async with visitor.ask("POST", f"{scene}/job", data="{}") as answer:
            assert answer.status == 409
        job = await _end_of(visitor)
        assert job["state"] == "done", job
        printed = "\n".join(job["lines"])
        assert "$ semia train" in printed
        assert "prepared:" in printed
        assert "model tiny-scene, version 1" in printed
        async with visitor.ask("GET", f"/api/job?since={job['next']}") as answer:
            assert (await answer.json())["lines"] == []
        async with visitor.ask("GET", f"{scene}/model") as answer:
            model = await answer.json()
        ids = np.zeros((model["height"], model["width"]), np.uint8)
        async with visitor.live("tiny-scene", model["card"]) as socket:
            await socket.send_bytes(
                pack({"sequence": 1, "width": model["width"], "height": model["height"]}, ids.tobytes())
            )
            assert len(unpack(await socket.receive_bytes(timeout=20)).body) == 3 * ids.size

    visit(settings_in(tmp_path / "work", scene_folder), errand)


def test_a_training_is_cancelled(scene_folder: Path, tmp_path: Path) -> None:
    async def errand(visitor: Visitor) -> None:
        asked = '{"preset": "paper-short", "minutes": 5}'
        async with visitor.ask("POST", "/api/scenes/tiny-scene/job", data=asked) as answer:
            assert answer.status == 200, await answer.text()
        await asyncio.sleep(0.3)
        async with visitor.ask("DELETE", "/api/job") as answer:
            assert answer.status == 200
        job = await _end_of(visitor)
        assert (job["state"], job["problem"]) == ("cancelled", "")

    visit(settings_in(tmp_path / "work", scene_folder), errand)
    assert not (tmp_path / "work" / "bundles").exists()


STUDIO = """
import asyncio, sys
from pathlib import Path
from semia.studio.jobs import MakeRequest, Workshop
from semia.studio.scenes import SceneFolder

async def make():
    workshop = Workshop(Path("runs"), Path("bundles"), None, (sys.executable, "-c", sys.argv[1], sys.argv[2]))
    workshop.start(SceneFolder(Path("scene")), MakeRequest())
    await workshop._task

asyncio.run(make())
"""

COMMAND = "import sys, time; out = open(sys.argv[1], 'w', buffering=1); out.write('began\\n'); time.sleep(600)"
"""Holds a pipe open for as long as it lives."""


def test_what_it_runs_does_not_outlive_a_killed_studio(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", STUDIO, COMMAND, pipe]) as studio, pipe.open() as reader:
        assert reader.readline() == "began\n"
        studio.kill()
        assert reader.read() == ""


def test_what_goes_wrong_is_said(scene_folder: Path, tmp_path: Path) -> None:
    (scene_folder / "label.png").unlink()

    async def errand(visitor: Visitor) -> None:
        for wrong in ('{"preset": "none"}', '{"resize": "large"}', "[]", "{", '{"run": "/"}'):
            async with visitor.ask("POST", "/api/scenes/tiny-scene/job", data=wrong) as answer:
                assert answer.status == 400, await answer.text()
        async with visitor.ask("POST", "/api/scenes/tiny-scene/job", data="{}") as answer:
            assert answer.status == 200
        job = await _end_of(visitor)
        assert job["state"] == "failed"
        assert "has no label picture" in job["problem"]

    visit(settings_in(tmp_path / "work", scene_folder), errand)

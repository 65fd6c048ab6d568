"""Structured logs: every line of standard error is an event, standard output holds results alone."""

import datetime
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semia.core.palette import Palette
from semia.serving import TritonServer
from tests.command import semia


def in_json(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return semia("--log-format", "json", *arguments, cwd=cwd)


def events_of(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stderr.splitlines()]


def in_a_process(script: str) -> subprocess.CompletedProcess[str]:
    """What a script logs; for its whole process, once it has begun."""
    begin = "from semia.cli.console import *\nchoose_format(LogFormat.JSON)\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


def test_what_is_said_becomes_events() -> None:
    result = in_a_process("""
        import logging, pathlib, warnings
        print_info("published: m", "published", path=pathlib.Path("m/1"), version=3)
        print_error("cannot\\nserve m", "model_failed", logging.WARNING, model="m")
        log_event("model_loaded", model="m", duration_s=0.12345678, psnr=float("inf"), note=None)
        print_view("a table")
        logging.getLogger("library").warning("careful with %s", "this")
        warnings.warn("old", stacklevel=1)
    """)
    assert result.stdout == ""
    *events, warned = events_of(result)
    now = datetime.datetime.now(datetime.UTC)
    for event in events:
        assert now - datetime.datetime.fromisoformat(event.pop("time")) < datetime.timedelta(seconds=60)
    assert events == [
        {"level": "info", "event": "published", "path": "m/1", "version": 3, "message": "published: m"},
        {"level": "warning", "event": "model_failed", "model": "m", "message": "cannot serve m"},
        {"level": "info", "event": "model_loaded", "model": "m", "duration_s": 0.123457, "psnr": "inf"},
        {"level": "warning", "event": "library", "logger": "library", "message": "careful with this"},
    ]
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: old" in warned["message"]


def test_progress_becomes_events_now_and_then() -> None:
    result = in_a_process("""
        with StepDisplay("iteration", 3, "training_progress", scene="cat") as steps:
            for done in (1, 2, 3):
                steps.update(done, "matching 0.5", losses={"matching": 0.5})
        with ClockDisplay("iteration", 300) as clock:
            clock.update(7, 63.0)  # too soon
            clock.update(8, 301.5)
    """)
    first, second = events_of(result)
    assert (first["event"], first["scene"], first["done"], first["total"]) == ("training_progress", "cat", 3, 3)
    assert first["losses"] == {"matching": 0.5}
    assert (second["event"], second["duration_s"], second["left_s"]) == ("progress", 301.5, 0.0)


def test_preparing_logs_its_events(scene_folder: Path, tmp_path: Path) -> None:
    result = in_json("train", scene_folder, "--run", tmp_path / "run")
    assert (result.returncode, result.stdout) == (0, "")
    events = events_of(result)
    names = list(dict.fromkeys(event["event"] for event in events))
    assert names == [
        "command_started",
        "scene_loaded",
        "preparation_started",
        "preparation_progress",
        "generator_prepared",
        "message",
        "command_finished",
    ]
    progress = [event for event in events if event["event"] == "preparation_progress"]
    assert (progress[0]["stage"], progress[0]["share"]) == ("variants", 0.0)
    assert (progress[-1]["stage"], progress[-1]["share"]) == ("sample sheet", 1.0)
    (prepared,) = (event for event in events if event["event"] == "generator_prepared")
    assert (prepared["scene"], prepared["run"]) == ("tiny-scene", str(tmp_path / "run"))
    assert prepared["duration_s"] > 0


def test_training_logs_its_events(scene_folder: Path, tmp_path: Path) -> None:
    result = in_json("train", scene_folder, "--preset", "paper-short", "--iterations", "2", "--run", tmp_path / "run")
    assert (result.returncode, result.stdout) == (0, "")
    events = {event["event"]: event for event in events_of(result)}
    wanted = ["command_started", "scene_loaded", "training_started", "training_progress", "training_finished"]
    assert [name for name in events if name in wanted] == wanted
    assert {"adversarial", "distribution"} <= events["training_progress"]["losses"].keys()
    assert events["training_finished"]["iteration"] == 2
    assert events["training_finished"]["duration_s"] > 0
    assert events["command_finished"]["exit_status"] == 0


def test_an_error_is_one_event_with_the_exit_status(tmp_path: Path) -> None:
    result = in_json("publish", "nowhere", cwd=tmp_path)
    errors = [event for event in events_of(result) if event["level"] == "error"]
    assert [(error["event"], error["exit_status"]) for error in errors] == [("error", result.returncode)]
    assert "is not a bundle" in errors[0]["message"]
    unknown = in_json("paint")
    assert events_of(unknown)[0]["message"].startswith("No such command 'paint'")
    assert unknown.returncode == events_of(unknown)[0]["exit_status"] == 2


def test_every_picture_is_an_event(triton: TritonServer, tiny_palette: Palette, tmp_path: Path) -> None:
    Image.fromarray(tiny_palette.render(np.zeros((48, 64), dtype=np.uint8))).save(tmp_path / "a.png")
    result = in_json("synthesize", "tiny", tmp_path / "a.png", "--url", triton.grpc_url, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    (picture,) = (event for event in events_of(result) if event["event"] == "picture_synthesized")
    assert (picture["model"], picture["path"]) == ("tiny", str(tmp_path / "out" / "a.png"))
    assert 0 < picture["latency_s"] < 30

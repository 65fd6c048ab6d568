"""Scenes as tasks of a real Ray on this machine, started by the command as a person starts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from semia.training.run_folder import RunFolder
from tests.command import ENVIRONMENT, semia

LOOPBACK = {
    "0100007F",
    "00000000000000000000000001000000",
    "0000000000000000FFFF00000100007F",
}
"""127.0.0.1, ::1, and the first in the second's form, as /proc writes them."""


def processes_of_group(group: int) -> list[Path]:
    """The processes of a session, in /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == group:
            found.append(process)
    return found


def listened_on(processes: list[Path]) -> set[str]:
    """The addresses that processes listen on, as /proc writes them."""
    inodes = set()
    for process in processes:
        for descriptor in (process / "fd").glob("*"):
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}


def test_a_local_ray_trains_scenes_side_by_side(scene_folder: Path, tmp_path: Path) -> None:
    good, killed, missing = tmp_path / "good", tmp_path / "killed", tmp_path / "missing"
    for folder in (good, killed):
        shutil.copytree(scene_folder, folder)
    command = [sys.executable, "-m", "semia", "--log-format", "json", "train", str(good), str(killed), str(missing)]
    command += ["--engine", "ray", "--address", "local", "--cpus", "1", "--preset", "paper-short"]
    command += ["--minutes", "0.05", "--run", str(tmp_path / "runs")]
    events: list[dict[str, Any]] = []
    addresses: set[str] = set()
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            events.append(json.loads(line))
            if events[-1]["event"] == "training_started":
                processes = processes_of_group(process.pid)
                addresses |= listened_on(processes)
                if events[-1]["scene"] == "killed":
                    (worker,) = (path for path in processes if (path / "cmdline").read_text().startswith("ray::killed"))
                    os.kill(int(worker.name), signal.SIGKILL)
    assert process.returncode == 1
    assert addresses
    assert addresses <= LOOPBACK

    last = {event["scene"]: event for event in events if "scene" in event}
    assert last["good"]["event"] == "training_finished"
    assert RunFolder.open(tmp_path / "runs" / "good").finished
    assert last["killed"]["event"] == last["missing"]["event"] == "training_failed"
    assert "its process died" in last["killed"]["note"]
    assert not RunFolder.open(tmp_path / "runs" / "killed").finished  # --resume goes on with it
    assert f"no scene folder at {missing}" in last["missing"]["note"]
    beside = {path.name for path in (tmp_path / "runs").iterdir()} - {"good", "killed"}
    assert beside == {".killed.lock"}, "which nobody holds any more"


def test_a_local_ray_prepares_generators(scene_folder: Path, tmp_path: Path) -> None:
    result = semia(
        *("--log-format", "json", "train", scene_folder, "--engine", "ray", "--address", "local", "--cpus", "1"),
        *("--run", tmp_path / "run"),
    )
    assert result.returncode == 0, result.stderr
    events = [json.loads(line)["event"] for line in result.stderr.splitlines()]
    assert {"preparation_started", "generator_prepared"} <= set(events)
    assert RunFolder.open(tmp_path / "run").finished

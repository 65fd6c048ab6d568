"""The command as a person uses it: a process, its output, its exit status."""

import importlib.util
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semia.core.images import read_rgb
from semia.core.palette import Palette
from semia.serving import TritonServer
from semia.training.copying.settings import CopyingSettings
from semia.training.request import TrainRequest
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene, load_scene, save_scene
from semia.training.settings import PAPER
from tests.command import ENVIRONMENT, complaint, semia, semia_here

PUBLISHED = ("--preset", "paper-short")

COMMANDS = [
    "train",
    "import",
    "render",
    "evaluate",
    "compare",
    "export",
    "train-and-export",
    "publish",
    "serve",
    "synthesize",
    "models",
    "bench",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_worth_reading(command: str) -> None:
    result = semia(command, "--help")
    assert result.returncode == 0
    assert "Usage: " in result.stdout
    assert len(result.stdout.splitlines()) > 8


def test_the_version_is_printed() -> None:
    assert semia("--version").stdout.startswith("semia 0.")


def test_help_needs_none_of_the_heavy_packages() -> None:
    script = (
        "import sys; from semia.cli import app; "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'tritonclient', 'grpc'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_scene_becomes_a_prepared_generator(scene_folder: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["train", scene_folder, "--run", tmp_path / "run"]
    result = semia(*arguments)
    assert result.returncode == 0, result.stderr
    assert "preparing tiny-scene: 60x44, 3 classes" in result.stdout
    assert re.search(r"^preparing 0%, 0:00 gone  variants$", result.stdout, re.MULTILINE)
    assert re.search(rf"^prepared: {tmp_path}/run, in \d:\d\d$", result.stdout, re.MULTILINE)
    assert "next: semia export" in result.stdout
    assert "train" not in result.stdout
    generator = tmp_path / "run" / "generator.safetensors"
    before = generator.read_bytes()

    assert "holds a prepared generator: add --resume to keep it, or --overwrite" in complaint(semia_here(*arguments), 2)
    kept = semia(*arguments, "--resume", "--seed", "1")  # nothing random is in it
    assert f"{tmp_path}/run is already prepared" in kept.stdout
    assert "another photograph" in complaint(semia_here(*arguments, "--resume", "--resize", "0.8"), 2)
    assert "another settings" in complaint(semia_here(*arguments, "--resume", "--preset", "paper"), 2)

    generator.write_bytes(b"another")
    result = semia(*arguments, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert generator.read_bytes() == before


def test_ctrl_c_ends_a_preparation_and_the_same_command_begins_anew(scene_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "semia", "train", str(scene_folder), "--run", str(run)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("preparing 0%"):
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output.splitlines()[-1] == "stopped; the same command prepares tiny-scene anew"
    assert errors == ""
    assert {path.name for path in run.iterdir()} == {"config.json", "scene"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=60)
    assert result.returncode == 0, result.stderr
    assert (run / "generator.safetensors").is_file()


def test_a_second_training_into_a_run_folder_is_told_who_holds_it(scene_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    arguments: list[str | Path] = ["train", scene_folder, "--run", run]
    with TrainRequest(scene=scene_folder, run=run).open_run():
        (run / ".generator.abcdefgh.partial.safetensors").touch()
        for more in ([], ["--overwrite"], ["--resume"], ["--preset", "paper", "--overwrite"]):
            line = complaint(semia_here(*arguments, *more), 2)
            assert f"{run} is in use by process {os.getpid()} on {socket.gethostname()}" in line
    assert semia_here(*arguments).returncode == 0
    assert [path.name for path in run.parent.iterdir()] == ["tiny"]
    assert not [*run.rglob(".*")], "nor did the killed one leave anything"


def test_a_closed_terminal_is_as_good_as_ctrl_c(scene_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process, terminal = pty.fork()
    if process == 0:
        command = [sys.executable, "-m", "semia", "train", str(scene_folder), *PUBLISHED, "--run", str(run)]
        os.execve(sys.executable, command, ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline, "training did not begin"
        os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    assert RunFolder.open(run).iterations_done == len((run / "metrics.jsonl").read_text().splitlines()) > 0


def test_a_copying_run_of_an_older_semia_is_one_line(scene_folder: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", load_scene(scene_folder), CopyingSettings())
    config = json.loads((run.path / "config.json").read_text())
    config["settings"] = PAPER.to_dict() | {"generator": "copying", "copying": {"width": 32, "rate": 2.5e-7}}
    (run.path / "config.json").write_text(json.dumps(config))
    commands: list[list[str | Path]] = [["train", scene_folder, "--run", run.path], ["export", run.path]]
    for command in commands:
        assert "prepared by an older semia: prepare it again with --overwrite" in complaint(semia_here(*command), 2)
    result = semia("train", scene_folder, "--run", run.path, "--overwrite")
    assert result.returncode == 0, result.stderr


def test_a_published_generator_is_trained(scene_folder: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["train", scene_folder, *PUBLISHED, "--iterations", "1", "--run", tmp_path / "run"]
    result = semia(*arguments)
    assert result.returncode == 0, result.stderr
    assert "1/1" in result.stdout
    assert "next: semia export" in result.stdout
    assert (tmp_path / "run" / "generator.safetensors").is_file()

    assert "holds a finished run: add --resume" in complaint(semia_here(*arguments), 2)
    assert "already trained for 1 iterations" in semia(*arguments, "--resume").stdout
    assert "another seed" in complaint(semia_here(*arguments, "--resume", "--seed", "1"), 2)


def test_a_run_by_the_clock_ends_by_itself(scene_folder: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["train", scene_folder, *PUBLISHED, "--run", tmp_path / "run"]
    result = semia(*arguments, "--minutes", "0.05")
    assert result.returncode == 0, result.stderr
    assert "preset paper-short, 0.05 minutes, on " in result.stdout
    assert re.search(r"iteration \d+, 0:\d\d gone, 0:00 left  adversarial", result.stdout)

    run = RunFolder.open(tmp_path / "run")
    assert run.finished
    assert run.iterations_done == len((run.path / "metrics.jsonl").read_text().splitlines())
    assert 3.0 <= run.seconds_done < 60.0
    assert "already trained for" in semia(*arguments, "--minutes", "0.05", "--resume").stdout
    assert "another settings" in complaint(semia_here(*arguments, "--resume"), 2)


def test_ctrl_c_keeps_what_was_learnt(scene_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "semia", "train", str(scene_folder), *PUBLISHED, "--run", str(run)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + 60
        while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text():
            assert time.monotonic() < deadline, "training did not begin"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume goes on" in output
    assert "Traceback" not in errors
    done = RunFolder.open(run).iterations_done
    assert done == len((run / "metrics.jsonl").read_text().splitlines()) > 0


def test_a_folder_of_label_maps_is_rendered(trained: Path, scene: Scene, tmp_path: Path) -> None:
    save_scene(scene, tmp_path / "scene")
    result = semia("render", trained, "--targets", tmp_path / "scene" / "cond", "--out", tmp_path / "pictures")
    assert result.returncode == 0, result.stderr
    assert read_rgb(tmp_path / "pictures" / "moved.png").shape == (44, 60, 3)


def test_one_bad_label_map_does_not_stop_the_others(trained: Path, scene: Scene, tmp_path: Path) -> None:
    save_scene(scene, tmp_path / "scene")
    targets = tmp_path / "scene" / "cond"
    (targets / "broken.png").write_bytes(b"no picture")
    result = semia("render", trained, "--targets", targets, "--out", tmp_path / "pictures")
    assert "broken.png" in complaint(result, 2)
    assert (tmp_path / "pictures" / "moved.png").is_file()


def test_a_picture_never_replaces_its_label_map(trained: Path, scene: Scene, tmp_path: Path) -> None:
    save_scene(scene, tmp_path / "scene")
    targets = tmp_path / "scene" / "cond"
    before = {path.name: path.read_bytes() for path in targets.iterdir()}
    result = semia_here("render", trained, "--targets", targets, "--out", tmp_path / "scene" / "." / "cond")
    assert "would replace it: choose another --out" in complaint(result, 2)
    assert {path.name: path.read_bytes() for path in targets.iterdir()} == before


def test_a_run_becomes_a_bundle_and_a_served_version(trained: Path, tmp_path: Path) -> None:
    result = semia("export", trained, "--bundle", tmp_path / "bundle")
    assert result.returncode == 0, result.stderr
    assert "difference from PyTorch" in result.stdout
    assert "mirrored" in result.stdout
    assert json.loads((tmp_path / "bundle" / "model_card.json").read_text())["name"] == "tiny"
    for version in (1, 2):
        result = semia("publish", tmp_path / "bundle", "--repository", tmp_path / "repository", "--name", "mine")
        assert f"model mine, version {version}" in result.stdout


def test_publishing_again_needs_only_what_changes(tiny_bundle: Path, tmp_path: Path) -> None:
    def published(*options: str) -> str:
        result = semia_here("publish", tiny_bundle, "--repository", tmp_path, *options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "runs with" not in published()
    assert "tiny runs with 1 instance of 1 thread, at most 5 requests" in published("--threads=1", "--queue-size=5")
    assert "tiny runs with 1 instance of 1 thread, at most 7 requests" in published("--queue-size=7")
    assert "tiny runs with 1 instance of 1 thread, at most 7 requests" in published()
    assert "tiny runs with 1 instance of all cores, at most 2 label maps" in published("--reset", "--max-batch=2")


@pytest.mark.parametrize("command", [["publish", "nowhere", "--tune"], ["train-and-export", "nowhere"], ["serve"]])
def test_a_bundle_is_no_repository_and_that_is_said_before_any_work(command: list[str], tiny_bundle: Path) -> None:
    result = semia_here(*command, "--repository", tiny_bundle)
    assert "is a bundle, not a model repository" in complaint(result, 2)
    assert result.stdout == ""


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="here is a TensorRT")
def test_without_tensorrt_an_engine_is_refused_before_anything_is_exported(trained: Path, tmp_path: Path) -> None:
    result = semia("export", trained, "--bundle", tmp_path / "bundle", "--format", "tensorrt")
    assert "TensorRT cannot be used here" in (line := complaint(result, 2))
    assert "an engine is built on the machine that will run it" in line
    assert list(tmp_path.iterdir()) == []


def test_pictures_come_back_from_a_server(triton: TritonServer, tiny_palette: Palette, tmp_path: Path) -> None:
    ids = np.zeros((48, 64), dtype=np.uint8)
    ids[20:, 30:] = 2
    Image.fromarray(tiny_palette.render(ids)).save(tmp_path / "a.png")
    Image.fromarray(tiny_palette.render(ids[:, ::-1].copy())).save(tmp_path / "b.png")
    result = semia(
        "synthesize", "tiny", tmp_path, "--url", triton.grpc_url, "--out", tmp_path / "out", "--sheet", "sheet.png",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "2 pictures" in result.stdout
    assert "median latency" in result.stdout
    assert np.array_equal(read_rgb(tmp_path / "out" / "a.png"), tiny_palette.render(ids))
    assert (tmp_path / "sheet.png").is_file()

    listing = semia("models", "--url", triton.grpc_url).stdout
    assert "tiny" in listing
    assert "64x48" in listing


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_serve_prints_where_it_listens_and_stops_cleanly(
    ending: signal.Signals, tiny_bundle: Path, embedded_triton: None, free_ports: Sequence[int], tmp_path: Path
) -> None:
    semia("publish", tiny_bundle, "--repository", tmp_path / "repository")
    grpc_port, metrics_port = map(str, free_ports)
    command = [sys.executable, "-m", "semia", "serve", "--repository", str(tmp_path / "repository")]
    command += ["--grpc-port", grpc_port, "--metrics-port", metrics_port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("serving on gRPC"):
                break
        assert f"127.0.0.1:{grpc_port}" in line
        assert "tiny" in semia("models", "--url", f"127.0.0.1:{grpc_port}").stdout
        taken = semia("serve", "--repository", tmp_path / "repository", "--grpc-port", grpc_port)
        assert f"gRPC port {grpc_port} is taken" in complaint(taken, 2)
        process.send_signal(ending)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert errors == ""


def test_a_huge_photograph_is_refused_in_one_line(tmp_path: Path) -> None:
    Image.new("1", (12000, 8000)).save(tmp_path / "img.png")
    line = complaint(semia("train", tmp_path), 2)
    assert "img.png is 12000x8000: more than 64,000,000 pixels" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere"], "no scene folder at nowhere"),
        (["train", "nowhere", "--preset", "best"], "no preset 'best': choose default, paper, paper-short"),
        (["train", "nowhere", "--preset", "quick"], "no preset 'quick': choose default, paper, paper-short"),
        (["train", "nowhere", "--minutes", "3"], "preset default is prepared, not trained: drop --minutes"),
        (["train", "a", "b", "--jobs", "2", "--shift", "0.1"], "preset default is prepared, not trained: drop --shift"),
        (["train", "nowhere", "--name", "../evil"], "cannot name a model"),
        (["train", "nowhere", "--preset", "paper", "--vgg-weights", "vgg.pth"], "no VGG19 weights at vgg.pth"),
        (["train", "nowhere", "--iterations", "0"], "Invalid value for '--iterations'"),
        (["train", "nowhere", "--minutes", "0"], "Invalid value for '--minutes'"),
        (
            ["train", "nowhere", *PUBLISHED, "--minutes", "5", "--iterations", "9"],
            "--iterations and --minutes both say when",
        ),
        (["train-and-export", "nowhere", *PUBLISHED, "--minutes", "inf"], "minutes must be above 0"),
        (["train", "nowhere", "--seed", "many"], "Invalid value for '--seed'"),
        (["train"], "Missing argument 'SCENE...'"),
        (["train", "a/x", "b/x", "--jobs", "2"], "a/x and b/x are both called 'x'"),
        (["train", "a", "b", "--name", "c"], "--name is for one scene"),
        (["train", "a", "--cpus", "2"], "--address and --cpus are for --engine ray"),
        (["--log-format", "xml", "models"], "Invalid value for '--log-format'"),
        (["import", "nowhere.pth"], "Missing option '--scene'"),
        (["import", "nowhere.pth", "--scene", "nowhere"], "no scene folder at nowhere"),
        (["paint"], "No such command 'paint'"),
        (["export", "nowhere"], "no run folder at nowhere"),
        (["export", "nowhere", "--precision", "fp12"], "Invalid value for '--precision'"),
        (["train-and-export", "nowhere", "--precision", "fp16"], "the copying generator has no fp16 form"),
        (["render", "nowhere", "--targets", "."], "no run folder at nowhere"),
        (["evaluate", "nowhere"], "nowhere is neither a run folder nor a bundle nor a published version"),
        (["compare", "nowhere"], "name at least two runs or models"),
        (["compare", "a", "b", "--sheet", "sheet.json"], "is no picture file"),
        (["export", "nowhere", "--format", "tensorrt", "--batches", "8"], "'8' are not OPT:MAX, such as 1:8"),
        (["publish", "nowhere"], "is not a bundle"),
        (["publish", "nowhere", "--accelerator", "magic"], "Invalid value for '--accelerator'"),
        (["publish", "nowhere", "--engine-cache", "engines"], "must be an absolute path of the server"),
        (["serve", "--repository", "nowhere"], "no such model repository: "),
        (["serve", "--triton", "mine"], "Invalid value for '--triton'"),
        (["synthesize", "tiny", "nowhere.png", "--url", "here"], "is not the address of a server"),
        (["synthesize", "tiny", "a/x.png", "b/x.png"], "two label maps are called 'x'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in complaint(semia_here(*arguments, cwd=tmp_path), 2)
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_folder_is_one_line_and_status_2(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"rmdir {gone}; exec {sys.executable} -m semia train nowhere"
    result = subprocess.run(["sh", "-c", command], cwd=gone, capture_output=True, text=True, check=False)
    assert "the current folder has been deleted: change to another" in complaint(result, 2)


def test_no_server_is_one_line_and_status_1(free_ports: Sequence[int]) -> None:
    assert "semia serve" in complaint(semia("models", "--url", f"127.0.0.1:{free_ports[0]}"), 1)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = semia("--debug", "export", "nowhere", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr

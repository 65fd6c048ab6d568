"""Everything this project promises of a GPU, measured in minutes: ``python -m tests.load.gpu_checks``.

Needs a checkout and the Python packages that are there; installs and downloads nothing. Each check is a process of
its own with a limit of time, so that one that hangs or crashes takes no other's figures along; what this machine lacks
is skipped with one line. The JSON is written anew after every check.
"""

import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from semia.core.files import write_text
from semia.training.machine import prepare_process
from tests.load import gpu_measurements as measured
from tests.load.gpu_measurements import CheckSettings, Figures, NotHereError

SKIPPED, FAILED = "skipped", "failed"
"""Instead of figures: what the machine lacks, or what went wrong."""

LIMIT_S = 570
"""Of all checks together."""

SCALE, DRY_RUN_SCALE = 0.89, 0.1
"""Of the example scene's sides: 570x380 pixels, and as few as networks can halve."""


@dataclass(frozen=True)
class Check:
    """One process of the checks."""

    name: str
    measure: Callable[[CheckSettings], Figures]
    limit_s: float
    in_dry_run: bool = True


CHECKS = [
    Check("machine", measured.machine, 60),
    Check("copying, PyTorch", measured.copying, 90),
    Check("paper, training in float32", partial(measured.training, mixed_precision=False), 60, False),
    Check("paper, training in bfloat16", partial(measured.training, mixed_precision=True), 60),
    Check("paper, a short run", measured.short_run, 60),
    Check("published, PyTorch", measured.published_answer, 90),
    Check("copying, ONNX Runtime", partial(measured.onnxruntime_answer, generator="copying"), 150),
    Check("published, ONNX Runtime", partial(measured.onnxruntime_answer, generator="published"), 90, False),
    Check("copying, Triton", partial(measured.triton_answer, generator="copying"), 90),
    Check("published, Triton", partial(measured.triton_answer, generator="published"), 60, False),
    Check("copying, TensorRT", partial(measured.tensorrt_answer, generator="copying"), 200),
    Check("published, TensorRT", partial(measured.tensorrt_answer, generator="published"), 120),
    Check(
        "published, TensorRT in fp16",
        partial(measured.tensorrt_answer, generator="published", precision="fp16"),
        120,
        False,
    ),
    Check("tests", measured.tests, 120, False),
    Check("paper, training compiled", partial(measured.training, mixed_precision=True, compiled=True), 120, False),
    Check("sheet", measured.sheet, 30),
]
"""The order in which they run: later ones use what earlier ones made, and the dearest come last."""


def run_checks(settings: CheckSettings, names: list[str], output: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run checks one after the other, each in a process, until the time is up; returns what the JSON file has.

    The file, ``output``, is written anew after every check, and ``tell`` told its outcome in one line.
    """
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": settings.device,
        "scene": settings.scene.name,
        "checks": {},
    }
    deadline = time.monotonic() + LIMIT_S
    for check in CHECKS:
        if check.name not in names:
            continue
        left = deadline - time.monotonic()
        began = time.monotonic()
        figures = (
            {SKIPPED: f"the {LIMIT_S} seconds of all checks are over"}
            if left <= 0
            else _in_process(check, settings, min(left, check.limit_s))
        )
        report["checks"][check.name] = {"took_s": round(time.monotonic() - began, 1), **figures}
        write_text(output, json.dumps(report, indent=2) + "\n")
        tell(f"{check.name}: {_in_one_line(figures)}")
    return report


def _in_process(check: Check, settings: CheckSettings, limit_s: float) -> Figures:
    result = settings.workspace / "result.json"
    result.unlink(missing_ok=True)
    log = settings.workspace / "log.txt"
    command = [sys.executable, "-m", "tests.load.gpu_checks", str(settings.scene), "--one", check.name]
    command += ["--scale", str(settings.scale), "--workspace", str(settings.workspace), "--device", settings.device]
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return {FAILED: f"not done after {limit_s:.0f} s"}
    if result.is_file():
        figures: Figures = json.loads(result.read_text(encoding="utf-8"))
        return figures
    last_lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
    return {FAILED: f"exit status {process.returncode}: " + "\n".join(last_lines)}


def _run_one(check: Check, settings: CheckSettings) -> None:
    """In the check's own process: leave its figures in the workspace."""
    prepare_process()
    if settings.device == "cpu":
        torch.set_num_threads(1)  # on so few pixels, threads would do nothing but wait for each other
    try:
        figures = check.measure(settings)
    except NotHereError as error:
        figures = {SKIPPED: str(error)}
    (settings.workspace / "result.json").write_text(json.dumps(figures), encoding="utf-8")


def _in_one_line(figures: Figures) -> str:
    for outcome in (SKIPPED, FAILED):
        if outcome in figures:
            return f"{outcome}: {str(figures[outcome]).strip().splitlines()[-1]}"
    return ", ".join(f"{name} {value}" for name, value in figures.items())


def main(
    scene: Annotated[Path, typer.Argument(help="Scene folder that everything is measured with.")] = Path(
        "examples/pagoda"
    ),
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("examples/gpu.json"),
    sheet: Annotated[Path | None, typer.Option(help="Where to put a sheet of what was drawn.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run what can be run on the CPU, on few pixels: tests the checks.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Run this check; may be given several times.")] = None,
    scale: Annotated[float, typer.Option(help="Of the scene's sides.")] = SCALE,
    workspace: Annotated[Path | None, typer.Option(help="Folder for what is made; it stays.")] = None,
    device: Annotated[str, typer.Option(hidden=True)] = "cuda",
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure on this machine's NVIDIA GPU all that this project promises there; takes at most ten minutes."""
    if one is not None:
        assert workspace is not None
        _run_one(next(check for check in CHECKS if check.name == one), CheckSettings(scene, scale, workspace, device))
        return
    if not dry_run and not torch.cuda.is_available():
        print("PyTorch sees no NVIDIA GPU on this machine: nothing to check (--dry-run tests the checks themselves)")
        return
    if dry_run:
        device, scale = "cpu", DRY_RUN_SCALE
    names = only or [check.name for check in CHECKS if check.in_dry_run or not dry_run]
    if unknown := set(names) - {check.name for check in CHECKS}:
        raise typer.BadParameter(f"no check {', '.join(map(shlex.quote, unknown))}", param_hint="--only")
    with tempfile.TemporaryDirectory(prefix="semia-gpu-") as temporary:
        folder = workspace or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        settings = CheckSettings(scene, scale, folder, device)
        report = run_checks(settings, names, output, partial(print, flush=True))
        drawn = folder / "sheet" / "gpu.png"
        if sheet is not None and drawn.is_file():
            sheet.parent.mkdir(parents=True, exist_ok=True)
            sheet.write_bytes(drawn.read_bytes())
    failed = [name for name, figures in report["checks"].items() if FAILED in figures]
    if failed:
        print(f"failed: {', '.join(failed)}; {output} has the reasons", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

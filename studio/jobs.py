"""Making a generator from the page: prepared or trained and exported by the command, then published."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from semia.core.errors import InputError, SemiaError
from semia.core.launcher import bound_to_this_process
from semia.studio.errors import BusyError, StudioError
from semia.studio.scenes import SceneFolder
from semia.studio.triton import Triton

Stage = Literal["prepare", "export", "publish"]
State = Literal["running", "done", "failed", "cancelled"]

SEMIA = (sys.executable, "-m", "semia")
"""The command."""

PRESETS = ("default", "paper-short", "paper")

KILL_AFTER_S = 10.0
"""When a command that was told to stop is killed."""

MAX_LINES = 2000
"""Of what was printed, the last so many are kept."""

PROGRESS_EVENTS = ("preparation_progress", "training_progress")


@dataclass(frozen=True)
class MakeRequest:
    """What the page asks for; the fields are options of ``semia train``."""

    preset: str = "default"
    resize: float | None = None
    minutes: float | None = None
    change_classes: bool = False  # publish also if class ids mean other classes than in the version before

    @classmethod
    def from_json(cls, content: object) -> "MakeRequest":
        """From the page's object.

        Raises:
            InputError: if it is something else; what the command checks itself is not checked here.
        """
        if not isinstance(content, dict) or not content.keys() <= {"preset", "resize", "minutes", "change_classes"}:
            raise InputError(f"a generator is asked for with the fields of a MakeRequest, not with {content!r}")
        request = cls(**content)
        if request.preset not in PRESETS:
            raise InputError(f"no preset {request.preset!r}: choose {', '.join(PRESETS)}")
        if not isinstance(request.change_classes, bool):
            raise InputError(f"change_classes must be true or false, not {request.change_classes!r}")
        for name in ("resize", "minutes"):
            value = getattr(request, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InputError(f"{name} must be a number, not {value!r}")
        return request

    def arguments(self) -> list[str]:
        """For ``semia train``."""
        given = {"--resize": self.resize, "--minutes": self.minutes}
        numbers = [text for option, value in given.items() if value is not None for text in (option, f"{value:g}")]
        return ["--preset", self.preset, *numbers]


@dataclass
class Job:
    """One generator being made, or made."""

    scene: str
    state: State = "running"
    stage: Stage = "prepare"
    share: float = 0.0  # of the stage, in [0, 1]
    detail: str = ""
    problem: str = ""
    began: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # how long it took; None while it runs
    lines: list[str] = field(default_factory=list)  # what was printed
    dropped: int = 0  # lines before those

    def say(self, line: str) -> None:
        """Add a line to what was printed."""
        self.lines.append(line)
        if len(self.lines) > MAX_LINES:
            self.dropped += len(self.lines) - MAX_LINES
            del self.lines[:-MAX_LINES]

    def as_json(self, since: int) -> dict[str, Any]:
        """What the page is told, with the lines from number ``since`` on."""
        return {
            "scene": self.scene,
            "state": self.state,
            "stage": self.stage,
            "share": self.share,
            "detail": self.detail,
            "problem": self.problem,
            "seconds": self.seconds if self.seconds is not None else time.monotonic() - self.began,
            "lines": self.lines[max(0, since - self.dropped) :],
            "next": self.dropped + len(self.lines),
        }


class Workshop:
    """Makes generators, one at a time."""

    def __init__(self, runs: Path, bundles: Path, triton: Triton, command: Sequence[str] = SEMIA) -> None:
        self._runs = runs
        self._bundles = bundles
        self._triton = triton
        self._semia = command
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._cancelled = False
        self.job: Job | None = None

    def start(self, scene: SceneFolder, request: MakeRequest) -> Job:
        """Begin to make a scene's generator.

        Raises:
            BusyError: if another is being made.
        """
        if self._task is not None and not self._task.done():
            assert self.job is not None, "what the task works on"
            raise BusyError(f"the generator of {self.job.scene!r} is being made: wait for it, or cancel it")
        self._cancelled = False
        self.job = Job(scene.name)
        self._task = asyncio.create_task(self._make(self.job, scene, request))
        return self.job

    async def cancel(self) -> None:
        """Stop what is being made; a version that is being published is published."""
        self._cancelled = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), KILL_AFTER_S)
            except TimeoutError:
                process.kill()
        if self._task is not None:
            await self._task

    async def _make(self, job: Job, scene: SceneFolder, request: MakeRequest) -> None:
        run, bundle = self._runs / scene.name, self._bundles / scene.name
        train = ["train", str(scene.path), "--name", scene.name, "--run", str(run), "--overwrite"]
        try:
            await self._command(job, "prepare", [*train, *request.arguments()])
            await self._command(job, "export", ["export", str(run), "--bundle", str(bundle), "--name", scene.name])
            self._begin(job, "publish")
            published = await self._triton.publish(bundle, change_classes=request.change_classes)
            job.say(f"published: {published.folder} (model {published.name}, version {published.version})")
            job.share, job.state = 1.0, "done"
        except SemiaError as error:
            job.state = "cancelled" if self._cancelled else "failed"
            job.problem = "" if self._cancelled else str(error)
        except Exception as error:
            job.state, job.problem = "failed", f"unexpected {type(error).__name__}: {error}"
            raise
        finally:
            job.seconds = time.monotonic() - job.began

    def _begin(self, job: Job, stage: Stage) -> None:
        if self._cancelled:
            raise StudioError("cancelled")
        job.stage, job.share, job.detail = stage, 0.0, ""

    async def _command(self, job: Job, stage: Stage, arguments: list[str]) -> None:
        """Run a sub-command to its end, and tell the job what it says.

        Raises:
            StudioError: if it fails; what it complained about is the message.
        """
        self._begin(job, stage)
        job.say(f"$ semia {' '.join(arguments)}")
        self._process = await asyncio.create_subprocess_exec(
            *bound_to_this_process([*self._semia, "--log-format", "json", *arguments]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the studio alone, which then stops it in order
        )
        assert self._process.stderr is not None, "it was asked for"
        complaint = last = ""
        while line := await self._process.stderr.readline():
            event = _event(line)
            if event.get("level") == "error":
                complaint = str(event.get("message", ""))
            last = str(event.get("message", "")) or last
            _tell(job, event)
        status = await self._process.wait()
        self._process = None
        if status != 0:
            raise StudioError(complaint or f"semia {arguments[0]} ended with status {status}: {last}")


def _event(line: bytes) -> Mapping[str, Any]:
    """A line of a structured log; one that is something else is a message."""
    text = line.decode(errors="replace").rstrip()
    with contextlib.suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    return {"message": text}


def _tell(job: Job, event: Mapping[str, Any]) -> None:
    message = str(event.get("message", ""))
    if event.get("event") in PROGRESS_EVENTS:
        done, total = event.get("done"), event.get("total")
        share = event.get("share", done / total if isinstance(done, int) and isinstance(total, int) else 0.0)
        job.share = min(1.0, float(share))
        job.detail = str(event.get("stage", message))
    elif message and not message.startswith("next: "):
        job.say(message)

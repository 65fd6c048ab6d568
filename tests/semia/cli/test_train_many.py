"""How many scenes at once are shown."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from semia.cli import console
from semia.cli.train_many import JobsDisplay
from semia.training.parallel.jobs import JobStatus, State, plan
from semia.training.request import TrainRequest

TRAINED = [
    JobStatus("cat", State.TRAINING),
    JobStatus("cat", State.TRAINING, 12, 63.0, 117.0, {"matching": 0.5}),
    JobStatus("cat", State.DONE, 40, 180.0),
    JobStatus("dog", State.FAILED, note="no scene folder at dog"),
    JobStatus("hen", State.INTERRUPTED, note="not begun"),
]

PREPARED = [
    JobStatus("cat", State.PREPARING, scene_notes=("palette index 255 is read as no class",)),
    JobStatus("cat", State.PREPARING, seconds=9.0, left_s=3.0, stage="variants"),
    JobStatus("cat", State.DONE, seconds=12.0),
    JobStatus("dog", State.FAILED, note="no scene folder at dog"),
    JobStatus("hen", State.DONE, note="was prepared already"),
]


def display(preset: str) -> JobsDisplay:
    requests = [TrainRequest(scene=Path(n), run=Path("runs", n), preset=preset) for n in ("cat", "dog", "hen", "pig")]
    return JobsDisplay(plan(requests, threads=1))


def show(preset: str, statuses: list[JobStatus]) -> None:
    with display(preset) as shown:
        for status in statuses:
            shown.update(status)


def test_where_there_is_no_terminal_every_event_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
    show("paper", TRAINED)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "cat: training",
        "cat: training, 12 iterations in 1:03, 1:57 left  matching 0.500",
        "cat: done, 40 iterations in 3:00",
        "hen: interrupted, not begun",
    ]
    assert output.err == "semia: dog failed: no scene folder at dog\n"


def test_preparations_are_told_by_their_stages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
    show("default", PREPARED)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "cat: palette index 255 is read as no class",
        "cat: preparing",
        "cat: preparing, 0:09 gone, 0:03 left  variants",
        "cat: done, in 0:12",
        "hen: done, was prepared already",
    ]
    assert output.err == "semia: dog failed: no scene folder at dog\n"


def test_a_preparations_events_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
    events: list[tuple[str, dict[str, object]]] = []

    def keep(_message: str, event: str, _level: int = 0, **fields: object) -> None:
        events.append((event, {name: value for name, value in fields.items() if value is not None}))

    monkeypatch.setattr("semia.cli.train_many.print_info", keep)
    monkeypatch.setattr("semia.cli.train_many.print_error", keep)
    with display("default") as shown:
        for status in [*PREPARED, JobStatus("pig", State.INTERRUPTED, note="not begun")]:
            shown.update(status)
    assert [event for event, _ in events] == [
        "scene_note",
        "preparation_started",
        "preparation_progress",
        "generator_prepared",
        "preparation_failed",
        "generator_prepared",
        "preparation_stopped",
    ]
    assert events[2][1] == {"scene": "cat", "stage": "variants", "duration_s": 9.0, "left_s": 3.0}
    assert not any("iteration" in fields or "losses" in fields for _, fields in events)


def test_a_terminal_shows_a_table_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "stdout", Console(file=terminal, force_terminal=True, width=100, color_system=None))
    with display("paper") as shown:
        for status in TRAINED:
            shown.update(status)
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.getvalue())
    lines = [line.split() for line in text.splitlines() if line.strip()][-5:]
    assert [line[:2] for line in lines] == [
        ["scene", "state"],
        ["dog", "failed"],
        ["hen", "interrupted"],
        ["pig", "waiting"],
        ["cat", "done"],
    ]
    assert lines[-1][2] == "40"
    assert lines[1][-5:] == ["no", "scene", "folder", "at", "dog"]

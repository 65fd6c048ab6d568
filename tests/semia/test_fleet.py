"""How many scenes at once are shown."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from semia.cli import console
from semia.cli.fleet import FleetDisplay
from training.fleet import News, State, plan
from training.request import TrainRequest

NEWS = [
    News("cat", State.TRAINING),
    News("cat", State.TRAINING, 12, 63.0, 117.0, {"matching": 0.5}),
    News("cat", State.DONE, 40, 180.0),
    News("dog", State.FAILED, note="no scene folder at dog"),
    News("hen", State.INTERRUPTED, note="not begun"),
]


def display() -> FleetDisplay:
    names = ("cat", "dog", "hen", "pig")
    return FleetDisplay(plan([TrainRequest(scene=Path(name), run=Path("runs", name)) for name in names], threads=1))


def test_where_there_is_no_terminal_every_event_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
    with display() as shown:
        for news in NEWS:
            shown.tell(news)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "cat: training",
        "cat: training, 12 iterations in 1:03, 1:57 left  matching 0.500",
        "cat: done, 40 iterations in 3:00",
        "hen: interrupted, not begun",
    ]
    assert output.err == "semia: dog failed: no scene folder at dog\n"


def test_a_terminal_shows_a_table_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "stdout", Console(file=terminal, force_terminal=True, width=100, color_system=None))
    with display() as shown:
        for news in NEWS:
            shown.tell(news)
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

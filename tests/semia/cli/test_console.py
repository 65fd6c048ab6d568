"""Progress where output goes to a file: a line now and then; on a terminal: a bar."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from semia.cli import console
from semia.cli.console import (
    ClockDisplay,
    PhaseDisplay,
    StageDisplay,
    StepDisplay,
    format_duration,
    print_error,
    print_info,
    print_view,
)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (63, "1:03"), (3600, "1:00:00"), (36_061, "10:01:01")])
def test_durations_read_like_clocks(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_steps_are_counted_and_the_last_is_always_said(capsys: pytest.CaptureFixture[str]) -> None:
    with StepDisplay("iteration", 3) as display:
        for done in (1, 2, 3):
            display.update(done, f"loss {done}")
    assert capsys.readouterr().out == "iteration 3/3, 0:00 gone, 0:00 left  loss 3\n"


def test_the_clock_says_exactly_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ClockDisplay("iteration", 300) as display:
        display.update(1, 10.0)  # too soon for a line
        monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
        display.update(7, 63.0, "loss 0.5")
        display.update(8, 301.2)
    assert capsys.readouterr().out == "iteration 7, 1:03 gone, 3:57 left  loss 0.5\niteration 8, 5:01 gone, 0:00 left\n"


def test_a_stage_is_said_when_it_begins_and_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with StageDisplay("preparing") as display:
        display.update("variants", 0.0)
        display.update("variants", 0.3)  # too soon for another line
        display.update("descriptors", 0.5)
        monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
        display.update("descriptors", 0.75)
    assert capsys.readouterr().out.splitlines() == [
        "preparing 0%, 0:00 gone  variants",
        "preparing 50%, 0:00 gone  descriptors",
        "preparing 75%, 0:00 gone  descriptors",
    ]


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "stdout", Console(file=terminal, force_terminal=True, width=120, highlight=False))
    with ClockDisplay("iteration", 300) as display:
        display.update(7, 63.0, "loss 0.5")
    with StepDisplay("rendering", 4) as steps:
        steps.update(4, "a.png")
    with StageDisplay("preparing") as stages:
        stages.update("variants", 0.37)
    shown = terminal.getvalue()
    assert "37%" in shown
    assert "variants" in shown
    assert "3:57 left" in shown
    assert "loss 0.5" in shown
    assert "4/4" in shown


def test_phases_within_phases_are_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with PhaseDisplay("TensorRT") as display:
        display.start("building", 2)
        display.step("building", 0)  # too soon for a line
        monkeypatch.setattr(console, "LINE_INTERVAL_S", 0.0)
        display.start("timing", 40)
        display.step("timing", 6)
        display.finish("timing")
        display.finish("building")
    assert capsys.readouterr().out == "TensorRT: timing 7/40, 0:00 gone\n"


def test_phases_within_phases_are_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "stdout", Console(file=terminal, force_terminal=True, width=120, highlight=False))
    with PhaseDisplay("TensorRT") as display:
        display.start("building", 2)
        display.start("timing", 40)
        display.step("timing", 6)
        display.finish("timing")
        display.step("building", 0)
    shown = terminal.getvalue()
    assert "1/2" in shown
    assert "timing" not in shown.splitlines()[-1]


TYPED = "[red]x[/red] [/] :sun: [link=a]"


def test_what_was_typed_is_shown_as_it_was_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_info(TYPED)
    print_error(TYPED)
    table = Table(box=None, show_header=False)
    table.add_row(TYPED)
    print_view(table)
    output = capsys.readouterr()
    assert [line.strip() for line in output.out.splitlines()] == [TYPED, TYPED]
    assert output.err == f"semia: {TYPED}\n"
    terminal = io.StringIO()
    shown = Console(file=terminal, force_terminal=True, width=200, highlight=False, markup=False, emoji=False)
    monkeypatch.setattr(console, "stdout", shown)
    with StepDisplay(TYPED, 4) as steps:
        steps.update(4, TYPED)
    assert terminal.getvalue().count(TYPED) >= 2


def test_any_text_can_be_printed_whatever_the_locale() -> None:
    program = (
        r"from semia.cli.console import *; accept_any_text(); print_info('\u00e9 \udce9 \u65e5'); print_error('\udce9')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout == b"\\xe9 \xe9 \\u65e5\n"
    assert done.stderr == b"semia: \xe9\n"

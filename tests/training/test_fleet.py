"""Many scenes trained side by side, for real, in processes on this machine."""

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from semia.errors import InputError
from semia.machine import usable_cores
from training.fleet import News, State, plan, threads_of_each, train_fleet
from training.local_engine import LocalEngine
from training.request import TrainRequest
from training.run_folder import RunFolder

ENDLESS = 1_000_000


@pytest.fixture
def request_of(scene_folder: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(scene=scene_folder, run=tmp_path / "runs" / "good", name="good", preset="quick", iterations=1)


def another(request: TrainRequest, name: str, iterations: int = ENDLESS) -> TrainRequest:
    return dataclasses.replace(request, name=name, run=request.run.parent / name, iterations=iterations)


def test_a_failure_and_a_kill_do_not_stop_the_others(request_of: TrainRequest) -> None:
    missing = dataclasses.replace(another(request_of, "missing"), scene=Path("nowhere"))
    jobs = plan([request_of, missing, another(request_of, "killed")], threads=1)

    def kill(news: News) -> None:
        if news.name == "killed" and news.state is State.TRAINING:
            (child,) = (child for child in multiprocessing.active_children() if child.name == "killed")
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    ended = train_fleet(jobs, LocalEngine(), at_once=3, tell=kill)
    assert (ended["good"].state, ended["good"].iteration) == (State.DONE, 1)
    assert RunFolder.open(request_of.run).finished
    assert (ended["missing"].state, ended["missing"].note) == (State.FAILED, "no scene folder at nowhere")
    assert ended["killed"].state is State.FAILED
    assert ended["killed"].note.startswith("its process was ended by SIGKILL")
    assert multiprocessing.active_children() == []


def test_a_stopped_fleet_keeps_what_it_learnt_and_begins_no_more(request_of: TrainRequest) -> None:
    seen: list[News] = []
    jobs = plan([another(request_of, "stopped"), another(request_of, "waiting")], threads=1)
    ended = train_fleet(
        jobs,
        LocalEngine(),
        at_once=1,
        tell=seen.append,
        should_stop=lambda: any(news.iteration for news in seen),
    )
    assert [news.state for news in ended.values()] == [State.INTERRUPTED, State.INTERRUPTED]
    assert ended["waiting"].note == "not begun"
    run = RunFolder.open(jobs[0].request.run)
    assert run.iterations_done == ended["stopped"].iteration >= 1
    assert not jobs[1].request.run.exists()
    progress = next(news for news in seen if news.iteration)
    assert progress.losses.keys() == {"matching", "misplaced"}
    assert progress.left_s is not None


def test_two_scenes_of_one_name_are_refused(request_of: TrainRequest) -> None:
    unnamed = dataclasses.replace(request_of, name=None)
    twin = dataclasses.replace(unnamed, scene=request_of.scene.parent / "other" / "tiny_scene")
    assert [job.name for job in plan([unnamed, twin], 1)] == ["tiny-scene", "tiny_scene"]
    twin = dataclasses.replace(unnamed, scene=request_of.scene.parent / "other" / "tiny scene")
    with pytest.raises(InputError, match="are both called 'tiny-scene'"):
        plan([unnamed, twin], 1)


def test_the_machine_is_divided_among_jobs() -> None:
    assert threads_of_each(1) == usable_cores()
    assert threads_of_each(1000) == 1
